"""Which weights are pruned: ranking, patterns, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.sparsity.patterns import Blocks, NOfM, read_pattern
from spacy_distil.compression.sparsity.selection import Selection

SEEDS = st.integers(0, 2**16)
SPARSITIES = st.floats(0.0, 0.9)


def matrices(seed: int, *, distinct: bool = True) -> dict[str, Tensor]:
    """Scores of two matrices of unlike scale: all different, or of few values."""
    generator = torch.Generator().manual_seed(seed)
    one, other = torch.rand(8, 12, generator=generator), 10 * torch.rand(4, 8, generator=generator)
    return {"one": one, "other": other} if distinct else {"one": one.round(), "other": other.round()}


@given(SEEDS, SPARSITIES, st.booleans())
def test_local_prunes_the_share_of_every_matrix(seed, sparsity, distinct):
    scores = matrices(seed, distinct=distinct)
    pruned = Selection.read(sparsity, scope="local").choose(scores, sparsity, {})
    for name, mask in pruned.items():
        assert int(mask.sum()) == round(sparsity * mask.numel())
        if mask.any():
            assert scores[name][mask].max() <= scores[name][~mask].min()


@given(SEEDS, st.floats(0.0, 0.6), st.booleans())
def test_global_prunes_the_lowest_of_all(seed, sparsity, distinct):
    scores = matrices(seed, distinct=distinct)
    pruned = Selection.read(sparsity, scope="global").choose(scores, sparsity, {})
    together = torch.cat([mask.flatten() for mask in pruned.values()])
    values = torch.cat([score.flatten() for score in scores.values()])
    assert int(together.sum()) == round(sparsity * len(together))
    if together.any():
        assert values[together].max() <= values[~together].min()


@given(SEEDS, st.sampled_from([(2, 4), (1, 4), (3, 4), (1, 2)]), st.sampled_from(["local", "global"]))
def test_n_of_m_leaves_the_highest_n_of_every_group(seed, n_of_m, scope):
    kept, of = n_of_m
    selection = Selection.read(None, pattern=f"{kept}:{of}", scope=scope)
    assert selection.sparsity == 1 - kept / of
    scores = matrices(seed)
    for name, mask in selection.choose(scores, selection.sparsity, {}).items():
        groups, pruned = scores[name].view(-1, of), mask.view(-1, of)
        assert (~pruned).sum(dim=1).eq(kept).all()
        assert torch.equal(
            groups.topk(kept, dim=1).indices.sort(dim=1).values, (~pruned).nonzero()[:, 1].view(-1, kept)
        )


@given(SEEDS, st.floats(0.0, 0.5))
def test_on_the_way_to_n_of_m_nothing_goes_that_stays_in_the_end(seed, sparsity):
    selection = Selection.read(None, pattern="2:4", scope="local")
    scores = matrices(seed)
    final = selection.choose(scores, selection.sparsity, {})
    for name, mask in selection.choose(scores, sparsity, {}).items():
        assert int(mask.sum()) == round(sparsity * mask.numel())
        assert not (mask & ~final[name]).any()


@given(SEEDS, st.floats(0.0, 0.8))
def test_blocks_go_as_a_whole(seed, sparsity):
    pattern = Blocks(4, 2)
    scores = {name: pattern.pool(weights) for name, weights in matrices(seed).items()}
    for name, mask in Selection.read(sparsity, scope="local", pattern="4x2").choose(scores, sparsity, {}).items():
        assert mask.shape == matrices(seed)[name].shape
        blocks = pattern.pool(mask.int())
        assert set(blocks.unique().tolist()) <= {0, 8}
        assert int((blocks == 8).sum()) == round(sparsity * blocks.numel())


def test_a_blocks_score_is_the_sum_over_it():
    weights = torch.arange(24.0).view(4, 6)
    pooled = Blocks(2, 3).pool(weights)
    assert torch.equal(pooled[0, 1], weights[:2, 3:].sum())
    assert torch.equal(Blocks(2, 3).spread(pooled)[:2, 3:], pooled[0, 1].expand(2, 3))


@given(SEEDS, st.sampled_from(["local", "global"]), st.sampled_from([None, "2:4", "2x2"]))
def test_what_is_zero_stays_so_and_counts(seed, scope, pattern):
    selection = Selection.read(0.5, scope=scope, pattern=pattern)
    scores = matrices(seed)
    zeros = {"one": selection.pattern.spread(selection.pattern.pool(scores["one"]) > 0.5)}  # the highest
    zeros["one"][:, :2] = False
    scores = {name: selection.pattern.pool(score) for name, score in scores.items()}
    if pattern == "2x2":
        zeros["one"][4:, :4] = False
    pruned = selection.choose(scores, 0.5, zeros)
    assert not (zeros["one"] & ~pruned["one"]).any()
    if pattern is None and zeros["one"].sum() < 48:
        assert sum(int(mask.sum()) for mask in pruned.values()) == (64 if scope == "global" else 48 + 16)


def test_a_dead_weight_takes_no_place_of_a_living_one_in_its_group():
    scores = {"m": torch.tensor([[-3.0, -2.0, -1.0, 0.0]])}
    zeros = {"m": torch.tensor([[False, False, False, True]])}
    pruned = Selection.read(None, pattern="2:4").choose(scores, 0.5, zeros)
    assert pruned["m"].tolist() == [[True, False, False, True]]


def test_a_matrix_that_would_lose_everything_is_an_error():
    scores = {"small": torch.rand(2, 2), "large": 1 + torch.rand(20, 20)}
    selection = Selection.read(0.9, scope="local", pattern=None)
    assert not selection.choose({"large": scores["large"]}, 0.9, {})["large"].all()
    with pytest.raises(CompressionError, match=r"Nothing would be left of small at a sparsity of 0\.9\. Prune less"):
        selection.choose(scores, 0.9, {})


def test_of_all_matrices_each_keeps_its_best():
    scores = {"small": torch.rand(2, 2), "large": 1 + torch.rand(20, 20)}
    pruned = Selection.read(0.9, scope="global").choose(scores, 0.9, {})
    assert (~pruned["small"]).nonzero().tolist() == [list(divmod(int(scores["small"].argmax()), 2))]
    assert sum(int(mask.sum()) for mask in pruned.values()) == round(0.9 * 404)
    scores["large"] = scores["large"][:2, :2]
    with pytest.raises(
        CompressionError, match=r"Nothing would be left of small at a sparsity of 0\.9\. Prune less, or with"
    ):
        Selection.read(0.9, scope="global").choose(scores, 0.9, {})


@pytest.mark.parametrize("scope", ["local", "global"])
def test_a_matrix_of_zeros_stays_one(scope):
    scores = {"dead": torch.zeros(4, 4), "alive": 1 + torch.rand(4, 4)}
    zeros = {"dead": torch.ones(4, 4, dtype=torch.bool)}
    pruned = Selection.read(0.75, scope=scope).choose(scores, 0.75, zeros)
    assert pruned["dead"].all()
    assert int(pruned["alive"].sum()) == (12 if scope == "local" else 8)


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan"), float("inf"), "0.5", True])
def test_a_sparsity_out_of_range_is_an_error(sparsity):
    with pytest.raises(CompressionError, match=r"sparsity = .*at least 0 and less than 1"):
        Selection.read(sparsity)


def test_no_sparsity_at_all_is_an_error():
    with pytest.raises(CompressionError, match="No sparsity is given"):
        Selection.read(None, pattern="32x32")


def test_a_sparsity_that_the_pattern_contradicts_is_an_error():
    assert Selection.read(0.667, pattern="1:3").sparsity == pytest.approx(2 / 3)
    with pytest.raises(CompressionError, match=r"sparsity = 0\.6 does not go with the pattern 2:4, which prunes 0\.5"):
        Selection.read(0.6, pattern="2:4")


def test_an_unknown_scope_is_an_error():
    with pytest.raises(CompressionError, match=r"scope = 'layer' is not known. Known are local, global"):
        Selection.read(0.5, scope="layer")


@pytest.mark.parametrize("pattern", ["0:4", "4:4", "5:4", "0:0"])
def test_an_n_out_of_m_is_an_error(pattern):
    with pytest.raises(CompressionError, match="can be kept"):
        read_pattern(pattern)


@pytest.mark.parametrize("pattern", ["", "2", "2/4", "0x4", "4x", "-1x4", "axb"])
def test_an_unknown_pattern_is_an_error(pattern):
    with pytest.raises(CompressionError, match="is not known"):
        read_pattern(pattern)


def test_a_pattern_that_does_not_divide_a_shape_is_an_error():
    shapes = {"m": torch.Size([10, 12])}
    Blocks(5, 4).check(shapes)
    NOfM(2, 4).check(shapes)
    with pytest.raises(CompressionError, match=r"Blocks of 4x4 do not divide m, which is 10x12\..*such as 2x4\."):
        Blocks(4, 4).check(shapes)
    with pytest.raises(CompressionError, match=r"2:5 needs rows that groups of 5 fill, and m is 10x12"):
        NOfM(2, 5).check(shapes)
    with pytest.raises(CompressionError, match="leave the embeddings out"):
        Blocks(4, 4).check({"embeddings.word_embeddings.weight": torch.Size([10, 12])})
