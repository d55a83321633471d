"""Hidden states in training: what they are, their gradients, and that they cost nothing when nobody asks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from spacy.tokens import Doc

from spacy_distil.encoder import shim as shim_module
from spacy_distil.encoder.checkpoint import load_checkpoint
from spacy_distil.encoder.loss_scale import LossScale
from spacy_distil.encoder.model import get_shim
from spacy_distil.encoder.module import DistilBertEncoder
from spacy_distil.encoder.shim import DistilBertShim
from tests.conftest import TEXTS
from tests.encoder.reference import FLOAT32, Reference, relative_error

WINDOWS = {"window": 20, "overlap": 6}
LAYERS = (0, 2, 4)
Gradients = dict[str, torch.Tensor]


@pytest.fixture
def docs(make_doc) -> list[Doc]:
    """Docs that are cut into windows, and tokens without a piece."""
    return [make_doc(text) for text in [*TEXTS, "", " \n", "-" * 40 + " the", " ".join(TEXTS * 2)]]


def gradients_of(
    shim: DistilBertShim,
    docs: list[Doc],
    *,
    tokens: bool = False,
    layers: tuple[int, ...] = LAYERS,
    dropout: bool = False,
) -> tuple[torch.Tensor, Gradients]:
    """An update up to the optimiser, with random gradients: the hidden states, and the parameters' gradients."""
    torch.manual_seed(1)
    encoded, backprop = shim.begin_update(docs, dropout=dropout, layers=layers)
    assert encoded.layers is not None
    torch.manual_seed(2)
    d_layers = torch.randn(5, *encoded.tokens.shape)[list(layers)]
    backprop(torch.ones_like(encoded.tokens) if tokens else None, None, d_layers)
    gradients = {name: p.grad.clone() for name, p in shim.encoder.named_parameters() if p.grad is not None}
    for parameter in shim.encoder.parameters():
        parameter.grad = None
    return encoded.layers, gradients


def assert_same(actual: Gradients, expected: Gradients, *, bound: float = 1e-6) -> None:
    assert actual.keys() == expected.keys()
    assert actual
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    for name in expected:
        assert float((actual[name] - expected[name]).abs().max()) < bound * scale, name


def test_states_and_gradients_equal_autograd_through_transformers(make_encoder, folder: Path, docs, tmp_path):
    states, actual = gradients_of(get_shim(make_encoder(**WINDOWS, max_batch_pieces=50)), docs)
    reference = Reference(folder, **WINDOWS)
    expected = torch.cat(reference(docs)[0], dim=1)[list(LAYERS)]
    assert relative_error(states, expected.detach()) < FLOAT32
    torch.manual_seed(2)
    (expected * torch.randn(5, *expected.shape[1:])[list(LAYERS)]).sum().backward()
    # transformers' names are ours once its gradients are saved as if they were weights
    with torch.no_grad():
        for parameter in reference.model.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    reference.model.save_pretrained(tmp_path)
    reference.tokenizer.save_pretrained(tmp_path)
    gradients = load_checkpoint(str(tmp_path)).weights
    expected_gradients = {name: gradient for name, gradient in gradients.items() if not name.startswith("pooler.")}
    assert_same(actual, expected_gradients, bound=1e-4)


def test_gradients_equal_finite_differences(make_encoder, docs):
    """Along one random direction through all parameters at once."""
    shim = get_shim(make_encoder(**WINDOWS, max_batch_pieces=50))
    shim.encoder.double()
    parameters = dict(shim.encoder.named_parameters())
    encoded, backprop = shim.begin_update(docs, dropout=False, layers=LAYERS)
    assert encoded.layers is not None
    weights = torch.randn_like(encoded.layers)

    def loss() -> float:
        states = shim.begin_update(docs, dropout=False, layers=LAYERS)[0].layers
        assert states is not None
        return float((states.double() * weights).sum())

    backprop(None, None, weights)
    step = {name: torch.randn_like(parameter) * 1e-3 for name, parameter in parameters.items()}
    expected = sum(float((p.grad * step[name]).sum()) for name, p in parameters.items() if p.grad is not None)
    values = []
    with torch.no_grad():
        for sign in (1.0, -2.0):
            for name, parameter in parameters.items():
                parameter.add_(step[name], alpha=sign)
            values.append(loss())
    assert (values[0] - values[1]) / 2 == pytest.approx(expected, rel=0.01)


def test_gradients_of_states_and_vectors_add_up(make_encoder, docs):
    shim = get_shim(make_encoder(**WINDOWS))
    _, of_states = gradients_of(shim, docs)
    _, of_both = gradients_of(shim, docs, tokens=True)
    encoded, backprop = shim.begin_update(docs, dropout=False)
    backprop(torch.ones_like(encoded.tokens), None)
    of_tokens = {name: p.grad for name, p in shim.encoder.named_parameters() if p.grad is not None}
    assert_same(of_both, {name: of_states[name] + of_tokens[name] for name in of_tokens}, bound=1e-5)


@pytest.mark.parametrize("dropout", [False, True])
def test_gradient_checkpointing_changes_no_gradient(make_encoder, docs, dropout):
    plain, expected = gradients_of(get_shim(make_encoder(**WINDOWS)), docs, dropout=dropout)
    recomputing = get_shim(make_encoder(**WINDOWS, gradient_checkpointing=True))
    states, actual = gradients_of(recomputing, docs, dropout=dropout)
    assert torch.equal(states, plain)
    assert_same(actual, expected)


def test_batches_beyond_those_that_are_kept_change_no_gradient(make_encoder, docs, monkeypatch):
    shim = get_shim(make_encoder(**WINDOWS, max_batch_pieces=20))
    few, actual = gradients_of(shim, docs, dropout=True)
    monkeypatch.setattr(shim_module, "KEPT_BATCHES", 1000)
    every, expected = gradients_of(shim, docs, dropout=True)
    assert torch.equal(few, every)
    assert_same(actual, expected)


def test_frozen_parts_give_states_and_learn_nothing(make_encoder, docs):
    states, expected = gradients_of(get_shim(make_encoder(**WINDOWS)), docs)
    for freeze, learning in ((2, {"2", "3"}), ("all", set())):
        frozen, gradients = gradients_of(get_shim(make_encoder(**WINDOWS, freeze=freeze)), docs)
        torch.testing.assert_close(frozen, states, rtol=1e-4, atol=1e-5)
        assert {name.split(".")[2] for name in gradients} == learning
        if gradients:
            assert_same(gradients, {name: expected[name] for name in gradients})
    # Only a frozen state has a gradient: there is nothing to do.
    assert gradients_of(get_shim(make_encoder(**WINDOWS, freeze=2)), docs, layers=(0, 1))[1] == {}


def test_float16s_loss_scale_reaches_the_states(make_encoder, docs, monkeypatch):
    """A processor has no float16: float32 stands in for it."""
    shim = get_shim(make_encoder(**WINDOWS))
    _, expected = gradients_of(shim, docs)
    monkeypatch.setattr(shim_module, "resolve_precision", lambda *_: torch.float16)
    monkeypatch.setattr(DistilBertEncoder, "forward", at_float32(DistilBertEncoder.forward))
    shim.loss_scale = LossScale(8.0)
    _, scaled = gradients_of(shim, docs)
    assert_same(scaled, {name: 8.0 * gradient for name, gradient in expected.items()})


def at_float32(forward):
    return lambda encoder, packed, dtype: forward(encoder, packed, torch.float32)


def test_nobody_asks_and_nothing_is_kept(make_encoder, docs, monkeypatch):
    pooled = []
    pool = shim_module._pool
    monkeypatch.setattr(shim_module, "_pool", lambda hidden, batch: pooled.append(hidden) or pool(hidden, batch))
    shim = get_shim(make_encoder(**WINDOWS))
    encoded, _ = shim.begin_update(docs)
    pieces, windows = shim._read(docs)
    assert encoded.layers is None
    assert len(pooled) == len(list(shim._batches(pieces, windows)))
