from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spacy_distil.encoder.attention import attend_in_runs, attend_padded
from spacy_distil.encoder.packed import Packed

HEADS, WIDTH = 3, 4


def attend_slowly(qkv: Tensor, packed: Packed) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V, sequence by sequence and head by head."""
    rows = []
    for block in torch.split(qkv, list(packed.lengths)):
        q, k, v = (part.unflatten(1, (HEADS, WIDTH)) for part in block.chunk(3, dim=1))
        heads = [F.softmax(q[:, h] @ k[:, h].T / WIDTH**0.5, dim=1) @ v[:, h] for h in range(HEADS)]
        rows.append(torch.cat(heads, dim=1))
    return torch.cat(rows)


@pytest.mark.parametrize("attend", [attend_in_runs, attend_padded])
@pytest.mark.parametrize("lengths", [[2], [5, 5, 5], [2, 2, 3, 7, 7, 11], [7, 2, 7, 3, 1]])
def test_both_ways_equal_the_formula_forward_and_backward(attend, lengths):
    packed = Packed.from_lists([[0] * length for length in lengths])
    qkv = torch.randn(sum(lengths), 3 * HEADS * WIDTH, dtype=torch.float64, requires_grad=True)
    actual, expected = attend(qkv, packed, HEADS), attend_slowly(qkv, packed)
    torch.testing.assert_close(actual, expected)
    gradient = torch.randn_like(expected)
    (d_actual,) = torch.autograd.grad(actual, qkv, gradient)
    (d_expected,) = torch.autograd.grad(expected, qkv, gradient)
    torch.testing.assert_close(d_actual, d_expected)


@pytest.mark.parametrize("attend", [attend_in_runs, attend_padded])
@pytest.mark.parametrize("n_filler", [0, 1, 13, 40])
def test_without_gradient_every_length_equals_the_formula(attend, n_filler):
    lengths = [length for length in range(1, 40) for _ in range(1 + length % 3)]
    packed = Packed.from_lists([[0] * length for length in lengths])
    filled = packed.filled(sum(lengths) + n_filler)
    qkv = 5 * torch.randn(len(filled.ids), 3 * HEADS * WIDTH)
    context = attend(qkv, filled, HEADS)
    expected = attend_slowly(qkv[: sum(lengths)].double(), packed).float()
    # Logits of some hundreds: float32 leaves them, and so the weights, four digits.
    torch.testing.assert_close(context[: sum(lengths)], expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("lengths", [[3, 3, 8], [161, 200, 200, 320], [512] * 3, [170, 30, 201, 201]])
def test_bfloat16_equals_the_formula_to_its_rounding_for_short_sequences_and_long(lengths):
    packed = Packed.from_lists([[0] * length for length in lengths])
    qkv = torch.randn(sum(lengths), 3 * HEADS * WIDTH).bfloat16()
    context = attend_in_runs(qkv, packed, HEADS)
    assert context.dtype == torch.bfloat16
    expected = attend_slowly(qkv.double(), packed).float()
    torch.testing.assert_close(context.float(), expected, rtol=0, atol=2**-6 * expected.abs().max().item())


@pytest.mark.parametrize("attend", [attend_in_runs, attend_padded])
def test_no_piece_sees_another_sequence(attend):
    packed = Packed.from_lists([[0] * 3, [0] * 3, [0] * 5])
    qkv = torch.randn(11, 3 * HEADS * WIDTH)
    changed = qkv.clone()
    changed[3:6] = torch.randn(3, 3 * HEADS * WIDTH)
    before, after = attend(qkv, packed, HEADS), attend(changed, packed, HEADS)
    torch.testing.assert_close(before[:3], after[:3])
    torch.testing.assert_close(before[6:], after[6:])
    assert not torch.allclose(before[3:6], after[3:6])


@pytest.mark.parametrize("attend", [attend_in_runs, attend_padded])
def test_dropout_drops_attention_weights_and_keeps_the_mean(attend):
    packed = Packed.from_lists([[0] * 4] * 2000)
    qkv = torch.ones(8000, 3 * HEADS * WIDTH)
    context = attend(qkv, packed, HEADS, dropout_rate=0.25)
    assert torch.allclose(context.mean(), torch.tensor(1.0), atol=0.02)
    assert sorted({round(float(x), 3) for x in context.unique()}) == [0.0, 0.333, 0.667, 1.0, 1.333]


def test_runs_are_neighbours_of_one_length():
    packed = Packed.from_lists([[1, 2], [3, 4], [5], [6, 7]])
    assert [(run.n_sequences, run.length) for run in packed.runs()] == [(2, 2), (1, 1), (1, 2)]
    assert packed.positions.tolist() == [0, 1, 0, 1, 0, 0, 1]


@pytest.mark.parametrize("attend", [attend_in_runs, attend_padded])
def test_filler_is_seen_by_no_piece_and_sees_none(attend):
    packed = Packed.from_lists([[7] * 3, [7] * 3, [7] * 5])
    filled = packed.filled(1000)
    assert filled.n_filler == 5
    qkv = torch.randn(16, 3 * HEADS * WIDTH, requires_grad=True)
    context = attend(qkv, filled, HEADS)
    torch.testing.assert_close(context[:11], attend(qkv[:11], packed, HEADS))
    assert not context[11:].any()
    context.sum().backward()
    assert qkv.grad is not None
    assert not qkv.grad[11:].any()


@pytest.mark.parametrize("n_pieces", [1, 15, 16, 17, 100, 2047, 2048, 2049, 5000])
def test_filler_leaves_few_sizes_within_the_budget(n_pieces):
    packed = Packed.from_lists([[1] * n_pieces], types=[[1] * n_pieces])
    filled = packed.filled(10_000)
    assert filled.ids[:n_pieces].tolist() == packed.ids.tolist()
    assert filled.positions[:n_pieces].tolist() == packed.positions.tolist()
    assert filled.lengths == packed.lengths
    assert filled.types is not None
    assert len(filled.ids) == len(filled.positions) == len(filled.types)
    assert n_pieces <= len(filled.ids) <= max(n_pieces + 15, 1.25 * n_pieces)
    assert packed.filled(n_pieces).n_filler == 0
    assert packed.filled(1).n_filler == 0, "a window beyond the budget is not filled"


def test_batches_of_all_sizes_have_few_sizes_once_filled():
    sizes = {len(Packed.from_lists([[1] * n_pieces]).filled(4096).ids) for n_pieces in range(1, 4097)}
    assert len(sizes) < 40
