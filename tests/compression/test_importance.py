"""Importance is the gradient of the losses with respect to gates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from spacy.training import Example

from spacy_distil.compression.encoders import find_encoders
from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.importance import measure_importance
from spacy_distil.compression.labels import with_own_labels
from tests.compression.conftest import close_head, close_neuron
from tests.conftest import TEXTS

STEP = 0.02


def measure(nlp, examples):
    return measure_importance(nlp, find_encoders(nlp), examples)["distilbert"]


def parameters(nlp) -> list[np.ndarray]:
    nodes = [node for _, pipe in nlp.pipeline for node in pipe.model.walk()]
    found = [node.get_param(name).copy() for node in nodes for name in node.param_names if node.has_param(name)]
    shim = nlp.get_pipe("distilbert").shim
    return found + [parameter.detach().clone().numpy() for parameter in shim.encoder.parameters()]


def loss(nlp, example: Example) -> float:
    """The cross-entropies whose gradients the tagger and the classifier send."""
    total = 0.0
    doc = nlp.get_pipe("distilbert")(example.predicted.copy())
    for name, gold in (("tagger", example.get_aligned("TAG", as_string=True)), ("textcat", None)):
        pipe = nlp.get_pipe(name)
        scores = pipe.model.predict([doc])
        if name == "tagger":
            log_p = torch.log_softmax(torch.from_numpy(np.asarray(scores[0])).double(), dim=1)
            total -= float(sum(log_p[i, pipe.labels.index(label)] for i, label in enumerate(gold)))
        else:
            right = [example.reference.cats[label] for label in pipe.labels].index(1.0)
            total -= float(np.log(scores[0].astype("float64")[right]))
    return total


@pytest.mark.parametrize(("close", "number"), [(close_head, 2), (close_neuron, 7)])
@pytest.mark.parametrize("layer", [0, 3])
def test_importance_is_the_mean_of_the_finite_differences_of_the_loss_in_a_gate(
    nlp, corpus, shim, close, number, layer
):
    measured = measure(nlp, corpus)[layer]
    differences = []
    for example in corpus:
        close(shim, layer, number, 1 + STEP)
        above = loss(nlp, example)
        close(shim, layer, number, (1 - STEP) / (1 + STEP))
        below = loss(nlp, example)
        close(shim, layer, number, 1 / (1 - STEP))
        differences.append(abs(above - below) / (2 * STEP))
    values = measured.heads if close is close_head else measured.neurons
    assert values[number] > 0
    assert values[number] == pytest.approx(np.mean(differences), rel=0.02)


def test_what_has_no_weights_has_no_importance(nlp, corpus, shim):
    close_head(shim, 1, 3)
    close_neuron(shim, 2, 40)
    measured = measure(nlp, corpus)
    assert measured[1].heads.argmin() == 3
    assert measured[1].heads[3] == 0
    assert np.flatnonzero(measured[2].neurons == 0).tolist() == [40]


def test_no_weight_and_no_gradient_is_left_changed(nlp, corpus, shim):
    shim.encoder.layers[0].requires_grad_(False)
    before = parameters(nlp)
    measure(nlp, corpus)
    for value, old in zip(parameters(nlp), before, strict=True):
        np.testing.assert_array_equal(value, old)
    assert all(parameter.grad is None for parameter in shim.encoder.parameters())
    assert [p.requires_grad for p in shim.encoder.layers[0].parameters()] == [False] * 16
    assert all(p.requires_grad for p in shim.encoder.layers[1].parameters())
    for pipe in (nlp.get_pipe("tagger"), nlp.get_pipe("textcat")):
        for node in pipe.model.walk():
            assert not any(node.get_grad(name).any() for name in node.param_names if node.has_grad(name))


def test_frozen_layers_are_measured_like_others(nlp, corpus, shim):
    free = measure(nlp, corpus)
    shim.encoder.requires_grad_(False)
    for one, other in zip(free, measure(nlp, corpus), strict=True):
        np.testing.assert_allclose(one.heads, other.heads)
        np.testing.assert_allclose(one.neurons, other.neurons)


def test_texts_count_each_for_itself(nlp, corpus):
    """A gradient of one sign does not take away from that of another."""
    each = [measure(nlp, [example])[1] for example in corpus]
    together = measure(nlp, corpus)[1]
    np.testing.assert_allclose(together.heads, np.mean([layer.heads for layer in each], axis=0), rtol=1e-5)
    np.testing.assert_allclose(together.neurons, np.mean([layer.neurons for layer in each], axis=0), rtol=1e-5)


def test_a_last_text_without_gold_for_the_last_listener_counts(nlp, corpus):
    tags = [str(token) for token in corpus[1].reference]
    untold = Example.from_dict(nlp.make_doc(corpus[1].text), {"tags": ["UPPER"] * len(tags)})
    both, alone = measure(nlp, [corpus[0], untold]), measure(nlp, corpus[:1])
    assert (2 * both[0].heads > alone[0].heads).all()


def test_texts_without_labels_get_the_pipelines_own(nlp):
    bare = [Example(nlp.make_doc(text), nlp.make_doc(text)) for text in TEXTS]
    labelled = with_own_labels(nlp, bare)
    assert not bare[0].reference.cats
    assert [example.reference.cats for example in labelled] != [{}] * len(TEXTS)
    assert [[t.tag_ for t in e.reference] for e in labelled] == [[t.tag_ for t in doc] for doc in nlp.pipe(TEXTS)]
    assert all(layer.heads.all() for layer in measure(nlp, labelled))


def test_labels_that_are_there_stay(nlp, corpus):
    assert with_own_labels(nlp, corpus) == corpus


def test_nothing_to_learn_from_is_an_error(nlp):
    nlp.remove_pipe("textcat")
    with pytest.raises(CompressionError, match="No loss has reached the encoder 'distilbert'"):
        measure(nlp, [Example(nlp.make_doc(text), nlp.make_doc(text)) for text in TEXTS])


def test_a_loss_that_is_no_number_is_an_error(nlp, corpus, shim):
    nlp.remove_pipe("tagger")  # which says so itself
    shim.encoder.layers[0].ffn.lin1.bias.data[0] = float("nan")
    with pytest.raises(CompressionError, match="not a number"):
        measure(nlp, corpus)
