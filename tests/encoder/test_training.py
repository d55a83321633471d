"""Gradients against torch's own through transformers, against finite differences, and what freezing saves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from spacy.tokens import Doc
from thinc.api import Model, Optimizer, set_dropout_rate

from spacy_distil.encoder import shim as shim_module
from spacy_distil.encoder.checkpoint import load_checkpoint
from spacy_distil.encoder.model import ROWS, DistilBert, get_shim
from spacy_distil.encoder.module import DistilBertEncoder
from tests.conftest import TEXTS
from tests.encoder.reference import Reference, hidden_states, pack, random_sequences, relative_error, transformers_model

WINDOWS = {"window": 20, "overlap": 6}
Gradients = dict[str, torch.Tensor]


@pytest.fixture
def docs(make_doc) -> list[Doc]:
    """Docs that are cut into windows, and tokens without a piece."""
    return [make_doc(text) for text in [*TEXTS, "", " \n", "-" * 40 + " the", " ".join(TEXTS * 2)]]


def gradients_of(model: Model, docs: list[Doc], *, dropout: float = 0.0, seed: int = 1) -> tuple[list, Gradients]:
    """An update up to the optimiser, with a random gradient of the output: the output, and the parameters' gradients."""
    set_dropout_rate(model, dropout)
    torch.manual_seed(seed)
    rows, backprop = model.begin_update(docs)
    random = np.random.RandomState(0)
    assert backprop([random.normal(size=row.shape).astype("float32") for row in rows]) == []
    parameters = get_shim(model).encoder.named_parameters()
    gradients = {name: parameter.grad for name, parameter in parameters if parameter.grad is not None}
    for parameter in get_shim(model).encoder.parameters():
        parameter.grad = None
    return rows, gradients


def assert_same(actual: Gradients, expected: Gradients, *, bound: float = 1e-4) -> None:
    assert actual.keys() == expected.keys()
    assert actual
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    for name in expected:
        assert float((actual[name] - expected[name]).abs().max()) < bound * scale, name


@pytest.mark.parametrize("rows", ["tokens", "cls"])
def test_gradients_equal_autograd_through_transformers(make_encoder, folder: Path, docs, rows, tmp_path):
    model = make_encoder(**WINDOWS, max_batch_pieces=50)
    model.attrs[ROWS] = rows
    _, actual = gradients_of(model, docs)
    reference = Reference(folder, **WINDOWS)
    tokens, cls = reference(docs)
    outputs = [states[-1] for states in tokens] if rows == "tokens" else [states[-1:] for states in cls]
    random = np.random.RandomState(0)
    d_outputs = [torch.from_numpy(random.normal(size=output.shape).astype("float32")) for output in outputs]
    learning = [(output, gradient) for output, gradient in zip(outputs, d_outputs, strict=True) if output.requires_grad]
    torch.autograd.backward([output for output, _ in learning], [gradient for _, gradient in learning])
    # transformers' names are ours once its gradients are saved as if they were weights
    expected = {name: parameter.grad for name, parameter in reference.model.named_parameters()}
    with torch.no_grad():
        for parameter in reference.model.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    reference.model.save_pretrained(tmp_path)
    reference.tokenizer.save_pretrained(tmp_path)
    expected = load_checkpoint(str(tmp_path)).weights
    assert_same(actual, {name: gradient for name, gradient in expected.items() if not name.startswith("pooler.")})


def test_gradients_equal_finite_differences(folder: Path):
    """In float64, along random directions through all parameters at once."""
    encoder = load_checkpoint(str(folder)).build().double().eval()
    packed = pack(random_sequences([3, 3, 7], encoder.config.vocab_size))
    direction = torch.randn(13, encoder.config.width, dtype=torch.float64)

    def loss() -> torch.Tensor:
        return (encoder(packed, torch.float64)[-1] * direction).sum()

    parameters: list[torch.Tensor] = [parameter for part in encoder.parts for parameter in part.parameters()]
    gradients = torch.autograd.grad(loss(), parameters)
    for _ in range(3):
        step = [torch.randn_like(parameter) for parameter in parameters]
        expected = sum(float((gradient * s).sum()) for gradient, s in zip(gradients, step, strict=True))
        with torch.no_grad():
            values = []
            for sign in (1.0, -2.0, 1.0):  # to one side, to the other, and back
                torch._foreach_add_(parameters, step, alpha=sign * 1e-6)
                values.append(float(loss()))
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(expected, rel=1e-4)


def test_gradients_add_up_over_updates(make_encoder, docs):
    model = make_encoder(**WINDOWS)
    after: list[torch.Tensor] = []
    for _ in range(2):
        rows, backprop = model.begin_update(docs)
        backprop([np.ones_like(row) for row in rows])
        gradient = get_shim(model).encoder.layers[0].ffn.lin1.weight.grad
        assert gradient is not None
        after.append(gradient.clone())
    torch.testing.assert_close(after[1], 2 * after[0])


# Memory of an update


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_gradient_checkpointing_changes_no_gradient(make_encoder, docs, dropout):
    plain, expected = gradients_of(make_encoder(**WINDOWS), docs, dropout=dropout)
    recomputed, actual = gradients_of(make_encoder(**WINDOWS, gradient_checkpointing=True), docs, dropout=dropout)
    assert all(np.array_equal(a, b) for a, b in zip(plain, recomputed, strict=True))
    assert_same(actual, expected, bound=1e-6)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_batches_beyond_those_that_are_kept_change_no_gradient(make_encoder, docs, dropout, monkeypatch):
    model = make_encoder(**WINDOWS, max_batch_pieces=20)
    pieces, windows = get_shim(model)._read(docs)
    assert len(list(get_shim(model)._batches(pieces, windows))) > shim_module.KEPT_BATCHES + 2
    kept_few, actual = gradients_of(model, docs, dropout=dropout)
    monkeypatch.setattr(shim_module, "KEPT_BATCHES", 1000)
    kept_all, expected = gradients_of(model, docs, dropout=dropout)
    assert all(np.array_equal(a, b) for a, b in zip(kept_few, kept_all, strict=True))
    assert_same(actual, expected, bound=1e-6)


@pytest.mark.parametrize(("checkpointing", "most"), [(False, shim_module.KEPT_BATCHES), (True, 0)])
def test_activations_of_few_batches_are_kept(make_encoder, docs, checkpointing, most, monkeypatch):
    """A layer's input that autograd saved is alive after the forward pass; a recomputed batch's are not."""
    import weakref

    alive: list[weakref.ref] = []
    forward = DistilBertEncoder.forward

    def spy(encoder, packed, dtype=torch.float32):
        hidden = forward(encoder, packed, dtype)
        alive.append(weakref.ref(hidden[1]))
        return hidden

    monkeypatch.setattr(DistilBertEncoder, "forward", spy)
    _, backprop = make_encoder(**WINDOWS, max_batch_pieces=20, gradient_checkpointing=checkpointing).begin_update(docs)
    assert len(alive) > shim_module.KEPT_BATCHES + 2
    assert sum(state() is not None for state in alive) <= most
    assert backprop is not None


# Dropout


def test_dropout_is_off_at_a_rate_of_zero_and_on_above(make_encoder, docs):
    model = make_encoder(**WINDOWS)
    predicted = np.concatenate(model.predict(docs))
    off = [np.concatenate(gradients_of(model, docs, dropout=0.0, seed=s)[0]) for s in (1, 2)]
    on = [np.concatenate(gradients_of(model, docs, dropout=0.1, seed=s)[0]) for s in (1, 1, 2)]
    np.testing.assert_array_equal(off[0], off[1])
    np.testing.assert_allclose(off[0], predicted, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(on[0], on[1])
    assert np.abs(on[0] - on[2]).max() > 0.1
    np.testing.assert_array_equal(np.concatenate(model.predict(docs)), predicted)


@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
@pytest.mark.parametrize(("hidden", "attention"), [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_dropout_stands_where_transformers_has_it(save_checkpoint, model_type, hidden, attention):
    """At a rate of 1 dropout is no chance: what it stands on is zero, in transformers and here."""
    if model_type == "bert":
        rates = {"hidden_dropout_prob": hidden, "attention_probs_dropout_prob": attention}
    else:
        rates = {"dropout": hidden, "attention_dropout": attention}
    folder = save_checkpoint(model_type, **rates)
    encoder, reference = load_checkpoint(str(folder)).build().train(), transformers_model(folder).train()
    sequences = random_sequences([5, 5, 9], encoder.config.vocab_size)
    actual, expected = encoder(pack(sequences)), hidden_states(reference, sequences)
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours.detach(), theirs, rtol=1e-5, atol=1e-5)


# Freezing


def parts_of(gradients: Gradients) -> set[str]:
    return {name.split(".")[0] if name.startswith("emb") else name.split(".")[2] for name in gradients}


@pytest.mark.parametrize(
    ("freeze", "learning"),
    [
        ("none", {"embeddings", "0", "1", "2", "3"}),
        ("embeddings", {"0", "1", "2", "3"}),
        (0, {"0", "1", "2", "3"}),
        (1, {"1", "2", "3"}),
        (3, {"3"}),
        (4, set()),
        ("all", set()),
    ],
)
def test_frozen_parts_get_no_gradient_and_do_not_change(make_encoder, docs, freeze, learning):
    model = make_encoder(**WINDOWS, freeze=freeze, max_batch_pieces=50)
    encoder = get_shim(model).encoder
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    _, gradients = gradients_of(model, docs, dropout=0.1)
    assert parts_of(gradients) == learning
    optimizer = Optimizer(0.01, L2=0.1)
    rows, backprop = model.begin_update(docs)
    backprop([np.ones_like(row) for row in rows])
    model.finish_update(optimizer)
    changed = {name: value for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])}
    assert parts_of(changed) == learning
    assert {name for _, name in optimizer.mom1} == {name for name in gradients}


def test_the_parts_that_learn_learn_the_same_as_unfrozen(make_encoder, docs):
    _, expected = gradients_of(make_encoder(**WINDOWS), docs)
    _, actual = gradients_of(make_encoder(**WINDOWS, freeze=2), docs)
    assert_same(actual, {name: expected[name] for name in actual}, bound=1e-6)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("freeze", "frozen"), [("none", 0), ("embeddings", 1), (2, 3), ("all", 5)])
def test_no_graph_is_built_below_the_first_part_that_learns(
    make_encoder, docs, freeze, frozen, checkpointing, monkeypatch
):
    graphs: list[list[bool]] = []
    forward = DistilBertEncoder.forward

    def spy(encoder, packed, dtype=torch.float32):
        hidden = forward(encoder, packed, dtype)
        graphs.append([states.requires_grad for states in hidden])
        return hidden

    monkeypatch.setattr(DistilBertEncoder, "forward", spy)
    make_encoder(**WINDOWS, freeze=freeze, gradient_checkpointing=checkpointing).begin_update(docs)
    if frozen < 5:
        assert graphs
    assert all(graph == [False] * frozen + [True] * (5 - frozen) for graph in graphs)


def test_frozen_parts_run_without_dropout(make_encoder, docs, monkeypatch):
    model = make_encoder(**WINDOWS, freeze=2)
    modes: list[list[bool]] = []
    forward = DistilBertEncoder.forward

    def spy(encoder, packed, dtype=torch.float32):
        modes.append([part.training for part in encoder.parts])
        return forward(encoder, packed, dtype)

    monkeypatch.setattr(DistilBertEncoder, "forward", spy)
    gradients_of(model, docs, dropout=0.1)
    assert modes
    assert all(mode == [False, False, False, True, True] for mode in modes)
    assert not any(part.training for part in get_shim(model).encoder.modules())


@pytest.mark.parametrize("freeze", ["layers", -1, 5, 1.5, None])
def test_an_unknown_freeze_is_an_error_that_names_the_possible_ones(make_encoder, freeze):
    with pytest.raises(
        shim_module.EncoderError, match=r"for an encoder of 4 layers\. It takes none, embeddings, all.*0 to 4"
    ):
        make_encoder(freeze=freeze)


# Learning


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_updates_lower_a_loss(make_encoder, docs, precision):
    model, optimizer = make_encoder(**WINDOWS, precision=precision), Optimizer(0.003)
    target = [np.zeros_like(row) for row in model.predict(docs)]
    losses = []
    for _ in range(12):
        rows, backprop = model.begin_update(docs)
        backprop([row - goal for row, goal in zip(rows, target, strict=True)])
        model.finish_update(optimizer)
        losses.append(sum(float((row**2).sum()) for row in rows))
    assert losses[-1] < 0.8 * losses[0]


def test_a_prediction_between_updates_sees_the_new_weights(make_encoder, docs):
    model, optimizer = make_encoder(**WINDOWS), Optimizer(0.01)
    before = np.concatenate(model.predict(docs))
    rows, backprop = model.begin_update(docs)
    model.predict(docs)
    backprop([np.ones_like(row) for row in rows])
    model.finish_update(optimizer)
    after = np.concatenate(model.predict(docs))
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(np.concatenate(model.begin_update(docs)[0]), after, rtol=1e-4, atol=1e-5)


def test_bfloat16_gradients_point_where_float32s_do(make_encoder, docs):
    """The cosine between both, over all parameters, is above 0.99."""
    exact, rough = (
        torch.cat([g.flatten() for g in gradients_of(make_encoder(**WINDOWS, precision=p), docs)[1].values()])
        for p in ("float32", "bfloat16")
    )
    assert rough.dtype == torch.float32
    assert torch.cosine_similarity(exact, rough, dim=0) > 0.99
    assert relative_error(rough, exact) > 0


def test_finishing_an_update_without_a_gradient_or_without_weights_does_nothing(make_encoder, docs):
    optimizer = Optimizer(0.01)
    model = make_encoder(**WINDOWS)
    before = np.concatenate(model.predict(docs))
    model.finish_update(optimizer)
    DistilBert("some/name").finish_update(optimizer)
    np.testing.assert_array_equal(np.concatenate(model.predict(docs)), before)
    assert not optimizer.nr_update
