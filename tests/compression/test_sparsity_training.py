"""Encoders that are pruned while they train, and that train on once they are."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import spacy
import torch
from spacy.language import Language
from spacy.training import Example
from thinc.api import SGD, Adam, Optimizer
from torch import Tensor

from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.sparsity.attach import attach
from spacy_distil.compression.sparsity.magnitude import prune
from spacy_distil.compression.sparsity.pruner import Pruner
from spacy_distil.compression.sparsity.selection import Selection
from spacy_distil.compression.sparsity.settings import DEFAULTS, Settings
from spacy_distil.encoder.shim import DistilBertShim
from spacy_distil.encoder.zeros import Zeros, prunable
from tests.compression.conftest import randomize_head
from tests.pipeline.conftest import LISTENER, tagger

Build = Callable[..., Language]
BLOCK: dict[str, Any] = {"method": "movement", "sparsity": 0.75, "begin": 2, "end": 8, "every": 2}


def attached(nlp: Language, **block: Any) -> Language:
    nlp.config["pruning"] = {**BLOCK, **block}
    attach(nlp)
    return nlp


def learn(nlp: Language, corpus: list[Example], optimizer: Optimizer, n: int = 1) -> None:
    for _ in range(n):
        nlp.update(corpus, sgd=optimizer)


def sparsity(shim: DistilBertShim, *, embeddings: bool = False) -> float:
    matrices = prunable(shim.encoder, embeddings=embeddings).values()
    return sum(int((m == 0).sum()) for m in matrices) / sum(m.numel() for m in matrices)


def weights(shim: DistilBertShim) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in shim.encoder.named_parameters()}


def assert_zeros_hold(shim: DistilBertShim, zeros: dict[str, Tensor], optimizer: Optimizer | None = None) -> None:
    """In the weights, and in the optimiser's moments and averages."""
    for name, zero in zeros.items():
        assert (shim.encoder.get_parameter(name)[zero] == 0).all(), name
        if optimizer is not None:
            for arrays in (optimizer.mom1, optimizer.mom2, optimizer.averages or {}):
                if (shim.id, name) in arrays:
                    assert not arrays[shim.id, name].reshape(zero.shape)[zero.numpy()].any(), name


# During pruning


@pytest.mark.parametrize("method", ["magnitude", "movement"])
@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("pattern", [None, "2:4", "4x4"])
def test_sparsity_rises_along_the_schedule_and_is_exact(nlp, shim, corpus, method, scope, pattern):
    final = 0.5 if pattern == "2:4" else 0.75
    attached(nlp, method=method, scope=scope, pattern=pattern, sparsity=final)
    optimizer = Adam(0.01, L2=0.01, use_averages=True)
    shares = []
    for _ in range(10):
        learn(nlp, corpus, optimizer)
        shares.append(sparsity(shim))
        assert_zeros_hold(shim, shim.zeros.pruned, optimizer)
        with nlp.use_params(optimizer.averages):
            assert sparsity(shim) == shares[-1]
    assert shares[:3] == [0, 0, 0]
    expected = [final * (1 - (1 - done / 3) ** 3) for done in (1, 1, 2, 2, 3, 3, 3)]
    assert shares[3:] == pytest.approx(expected, abs=0.5 / 128)  # a matrix of 32 x 32 has 64 blocks of 4 x 4
    biases_and_norms = [p for name, p in shim.encoder.named_parameters() if p.dim() == 1]
    assert all(p.count_nonzero() == p.numel() for p in biases_and_norms if p.requires_grad)


def test_embeddings_are_pruned_when_asked(nlp, shim, corpus):
    attached(nlp, embeddings=True, method="magnitude")
    words = shim.encoder.embeddings.word_embeddings.weight
    learn(nlp, corpus, Adam(0.01), 8)
    assert sparsity(shim, embeddings=True) == pytest.approx(0.75, abs=1e-3)
    assert (words == 0).any()


@pytest.mark.parametrize(("method", "pattern"), [("movement", None), ("movement", "4x4"), ("magnitude", None)])
def test_steps_are_those_of_the_papers(build, method, pattern):
    """W' = W * M; a step moves W by dL/dW' * M and S by dL/dW' * W; M is the top of S, or of |W|. Here in plain words, on an
    encoder that knows nothing of pruning."""
    rate = 0.05
    nlps = [build(tagger=tagger(LISTENER)) for _ in range(2)]
    shims = [nlp.get_pipe("distilbert").shim for nlp in nlps]
    scores = {"@optimizers": "SGD.v1", "learn_rate": 1.0, "grad_clip": 0.0, "use_averages": False}
    attached(nlps[0], method=method, pattern=pattern, scope="local", scores=scores)
    settings = Settings.from_block({**BLOCK, "pattern": pattern})
    units = settings.selection.pattern
    docs = [nlps[0].make_doc(text) for text in ("The film was great.", "A bad story, and endless!")]
    weight = {n: p.detach().clone() for n, p in prunable(shims[1].encoder, embeddings=False).items()}
    score = {n: torch.zeros_like(units.pool(w)) for n, w in weight.items()}
    mask = {n: torch.ones_like(w) for n, w in weight.items()}
    came_back = 0
    for step in range(1, 12):
        for shim in shims:
            encoded, backprop = shim.begin_update(docs, dropout=False)
            backprop(encoded.tokens - torch.linspace(-1, 1, 32), None)
        shims[0].finish_update(SGD(rate, grad_clip=0.0, use_averages=False))
        parameters = dict(shims[1].encoder.named_parameters())
        for n, p in parameters.items():
            gradient, p.grad = p.grad, None
            if n not in weight:
                p.data -= rate * gradient if gradient is not None else 0.0
                continue
            score[n] -= units.pool(gradient * weight[n])
            weight[n] -= rate * gradient * mask[n]
            if step in (4, 6, 8):
                worth = score[n] if method == "movement" else weight[n].abs()
                share = settings.schedule.at(step, 0.0)
                order = worth.flatten().argsort(stable=True)[: round(share * worth.numel())]
                kept = torch.ones(worth.numel()).index_fill(0, order, 0.0).view(worth.shape)
                came_back += int((units.spread(kept) > mask[n]).sum())
                mask[n] = units.spread(kept)
            p.data = weight[n] * mask[n]
        for n, p in shims[0].encoder.named_parameters():
            torch.testing.assert_close(p.data, parameters[n].data, msg=lambda m, n=n, s=step: f"{n}, step {s}: {m}")
    assert came_back > 0 or method == "magnitude"
    assert shims[0].zeros.progress == 1.0


def test_gradient_accumulation_is_one_step(nlp, shim, corpus):
    attached(nlp)
    optimizer = Adam(0.01)
    for half in (corpus[:2], corpus[2:]):
        nlp.update(half, sgd=False)
    for _, pipe in nlp.pipeline:
        pipe.finish_update(optimizer)
    assert shim.zeros.step == 1
    for _, pipe in nlp.pipeline:
        pipe.finish_update(optimizer)  # with nothing to learn from
    assert shim.zeros.step == 1


def test_nothing_but_the_zeros_is_left_of_it_in_the_end(nlp, shim, corpus):
    attached(nlp)
    optimizer = Adam(0.01)
    learn(nlp, corpus, optimizer, 7)
    assert {name.split("/")[0] for name in shim.zeros.state_dict()} == {"step", "pruned", "values", "criterion"}
    learn(nlp, corpus, optimizer, 1)
    assert {name.split("/")[0] for name in shim.zeros.state_dict()} == {"step", "pruned"}
    zeros = dict(shim.zeros.pruned)
    before = weights(shim)
    learn(nlp, corpus, optimizer, 3)
    assert all(torch.equal(zeros[name], shim.zeros.pruned[name]) for name in zeros)
    assert not all(torch.equal(before[name], after) for name, after in weights(shim).items())


def test_pruning_goes_on_from_a_pruned_pipeline(nlp, shim, corpus):
    prune(nlp, Selection.read(0.5, scope="local"))
    zeros = {name: zero.clone() for name, zero in shim.zeros.pruned.items()}
    attached(nlp, method="movement")
    shares = []
    for _ in range(9):
        learn(nlp, corpus, optimizer := Adam(0.01))
        shares.append(sparsity(shim))
        assert_zeros_hold(shim, zeros, optimizer)
    assert shares[:3] == pytest.approx([0.5] * 3)
    assert 0.5 < shares[3] < shares[5] < shares[-1] == pytest.approx(0.75, abs=1e-3)


def test_what_is_pruned_can_be_pruned_to_what_it_is(nlp, shim, corpus):
    prune(nlp, Selection.read(0.7503))  # more than 0.7503 once it is rounded
    zeros = {name: zero.clone() for name, zero in shim.zeros.pruned.items()}
    learn(attached(nlp, sparsity=0.7503), corpus, Adam(0.01), 8)
    assert all(torch.equal(shim.zeros.pruned[name], zero) for name, zero in zeros.items())


def test_pruning_of_a_pruned_pipeline_is_resumed(nlp, shim, corpus):
    """What was zero at the start stays so, and what has been pruned since can come back, as in the unbroken run."""
    optimizer = SGD(0.3, use_averages=False)
    block = {"end": 10, "scores": {"@optimizers": "Adam.v1", "learn_rate": 1.0, "beta1": 0.01, "beta2": 0.01}}
    prune(nlp, Selection.read(0.25))
    at_start = Zeros({name: zero.clone() for name, zero in shim.zeros.pruned.items()})
    learn(attached(nlp, **block), corpus, optimizer, 5)
    state = {name: tensor.clone() for name, tensor in shim.zeros.state_dict().items()}
    pruned_then = {name: zero.clone() for name, zero in shim.zeros.pruned.items()}
    resumed = copy.deepcopy(nlp)
    theirs = resumed.get_pipe("distilbert").shim
    theirs.zeros = at_start
    attached(resumed, **block)
    theirs.zeros.load_state_dict(state)
    for pipeline in (nlp, resumed):
        learn(pipeline, corpus, optimizer, 3)
    for name, zero in shim.zeros.pruned.items():
        assert torch.equal(theirs.zeros.pruned[name], zero), name
    for name, weight in weights(shim).items():
        torch.testing.assert_close(weights(theirs)[name], weight)
    assert any((pruned_then[name] & ~zero).any() for name, zero in shim.zeros.pruned.items())


def test_less_than_is_zero_already_is_an_error(nlp):
    prune(nlp, Selection.read(0.8))
    with pytest.raises(
        CompressionError, match=r"0\.\d+ of the weights .*'distilbert' are zero already.*keep_zeros = false"
    ):
        attached(nlp)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda nlp: pickle.loads(pickle.dumps(nlp))])
def test_a_copy_or_a_pickle_is_a_plain_pipeline(nlp, shim, corpus, copied):
    attached(nlp)
    optimizer = Adam(0.01)
    learn(nlp, corpus, optimizer, 5)
    plain = copied(nlp)
    theirs = plain.get_pipe("distilbert").shim
    assert type(theirs.zeros) is Zeros
    assert plain.evaluate.__func__ is Language.evaluate
    assert plain.evaluate.__self__ is plain
    share = sparsity(theirs)
    assert share == sparsity(shim) > 0
    learn(plain, corpus, Adam(0.01), 5)
    assert sparsity(theirs) == share
    learn(nlp, corpus, optimizer, 3)
    assert sparsity(shim) == pytest.approx(0.75, abs=1e-3)


def test_scores_are_shown_and_do_not_count_before_the_end(nlp, shim, corpus):
    attached(nlp)
    plain = Language.evaluate(nlp, corpus)
    sums = []
    for _ in range(9):
        scores = nlp.evaluate(corpus)
        assert scores.keys() == plain.keys()
        sums.append(sum(scores[name] * 0.5 for name in ("tag_acc", "cats_score")))
        learn(nlp, corpus, Adam(0.0001))
    assert nlp.evaluate([]).keys()  # as spaCy's own
    assert float(scores["tag_acc"]) == Language.evaluate(nlp, corpus)["tag_acc"]
    assert sums[:-1] == sorted(sums[:-1])
    assert all(value < 0 for value in sums[:-1])
    assert sums[0] == pytest.approx(-1.0)
    assert sums[-1] >= 0
    spacy.util.logger.debug("%s", pickle.loads(pickle.dumps(scores)))


def test_a_frozen_encoder_is_an_error(build):
    nlp = build(tagger=tagger(LISTENER), encoder={"freeze": "all"})
    with pytest.raises(CompressionError, match=r"encoder in 'distilbert' is frozen.*freeze = none"):
        attached(nlp)


def test_frozen_layers_are_left_alone(build, corpus):
    nlp = build(tagger=tagger(LISTENER), encoder={"freeze": 2})
    randomize_head(nlp, "tagger")
    shim = nlp.get_pipe("distilbert").shim
    attached(nlp, scope="local")
    learn(nlp, corpus, Adam(0.01), 8)
    shares = [
        sum((p == 0).float().mean() for p in layer.parameters() if p.dim() == 2) / 6 for layer in shim.encoder.layers
    ]
    assert shares == pytest.approx([0, 0, 0.75, 0.75], abs=1e-3)


def test_its_device_can_not_be_changed_meanwhile(nlp, shim):
    attached(nlp)
    with pytest.raises(CompressionError, match="being pruned"):
        shim.to_device("cpu", -1)


# After pruning


@pytest.mark.parametrize(
    "optimizer",
    [
        Adam(0.01, L2=0.1),
        Adam(0.01, L2=0.1, L2_is_weight_decay=False),
        Adam(0.01, use_averages=False),
        SGD(0.01, L2=0.1),
        spacy.registry.optimizers.get("RAdam.v1")(0.01),
    ],
)
def test_zeros_stay_zero_in_further_training(nlp, shim, corpus, optimizer):
    prune(nlp, Selection.read(0.6, embeddings=True))
    zeros, before = dict(shim.zeros.pruned), weights(shim)
    learn(nlp, corpus, optimizer, 5)
    assert_zeros_hold(shim, zeros, optimizer)
    for name, zero in zeros.items():
        if name.startswith("transformer."):
            moved = shim.encoder.get_parameter(name) != before[name]
            assert moved[~zero].float().mean() > 0.99, name


def test_what_an_optimiser_knows_of_before_moves_no_zero(nlp, shim, corpus):
    optimizer = Adam(0.01, L2=0.1)
    learn(nlp, corpus, optimizer, 3)
    prune(nlp, Selection.read(0.6))
    learn(nlp, corpus, optimizer)
    assert_zeros_hold(shim, shim.zeros.pruned, optimizer)
    learn(nlp, corpus, optimizer, 3)
    assert_zeros_hold(shim, shim.zeros.pruned, optimizer)
    assert sparsity(shim) == pytest.approx(0.6, abs=1e-3)


def test_weights_from_elsewhere_take_over_the_zeros(nlp, shim):
    dense = weights(shim)
    prune(nlp, Selection.read(0.6))
    shim.overwrite(dense)
    assert_zeros_hold(shim, shim.zeros.pruned)


def test_pruned_at_once_the_smallest_weights_are_zero(nlp, shim):
    before = weights(shim)
    doc = nlp("The film was great.")
    prune(nlp, Selection.read(0.6, scope="local"))
    for name, parameter in prunable(shim.encoder, embeddings=False).items():
        zero = parameter == 0
        assert torch.equal(parameter[~zero], before[name][~zero])
        assert before[name][zero].abs().max() <= before[name][~zero].abs().min()
    assert not torch.equal(torch.tensor(doc.tensor), torch.tensor(nlp("The film was great.").tensor))


@pytest.mark.parametrize(("pattern", "error"), [("2:5", "2:5 needs rows"), ("5x5", "5x5 do not divide")])
def test_a_pattern_that_does_not_fit_is_an_error_and_changes_nothing(nlp, shim, pattern, error):
    with pytest.raises(CompressionError, match=error):
        prune(nlp, Selection.read(None if ":" in pattern else 0.5, pattern=pattern))
    with pytest.raises(CompressionError, match=error):
        attached(nlp, pattern=pattern, sparsity=None if ":" in pattern else 0.5)
    assert sparsity(shim) == 0
    assert not shim.zeros


def test_a_pipeline_without_an_encoder_is_an_error():
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    with pytest.raises(CompressionError, match="no DistilBERT or BERT encoder"):
        prune(nlp, Selection.read(0.5))
    with pytest.raises(CompressionError, match="no DistilBERT or BERT encoder"):
        attached(nlp)


def test_components_choose_the_encoders(build):
    nlp = build(tagger=tagger(LISTENER))
    with pytest.raises(CompressionError, match=r"names 'ner', which has no .* encoder. Those that have: distilbert"):
        attached(nlp, components=["ner"])
    attached(nlp, components=["distilbert"])
    assert isinstance(nlp.get_pipe("distilbert").shim.zeros, Pruner)
    assert DEFAULTS["components"] is None
