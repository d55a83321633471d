"""The encoder's backward pass runs exactly once an update, whoever listens and whoever stays silent."""

import numpy
import pytest
from thinc.api import fix_random_seed

from spacy_distil.distillation.pipes.encoder import EncoderPass

from .toy import build, examples


@pytest.fixture
def counted(monkeypatch):
    """An initialised pipeline, and a list that grows by one with each backward pass of its encoder."""
    nlp = build()
    encoder = nlp.get_pipe("tok2vec")
    calls = []
    forward = encoder.model._func

    def count(model, X, is_train):
        Y, backprop = forward(model, X, is_train)

        def counted_backprop(dY):
            calls.append(dY)
            return backprop(dY)

        return Y, counted_backprop

    monkeypatch.setattr(encoder.model, "_func", count)
    return nlp, encoder, calls


def heads_gradient(nlp, listener, egs):
    """Let a component of the pipeline backpropagate ones through its listener."""
    tokvecs, backprop = listener([eg.x for eg in egs], is_train=True)
    backprop([numpy.ones_like(t) for t in tokvecs])


@pytest.mark.parametrize("firing", [[], [0], [1], [0, 1], [1, 0], [1, 1], [0, 1, 1, 0]])
def test_backward_pass_runs_once_with_the_sum_of_all_gradients(firing, counted):
    nlp, encoder, calls = counted
    egs = examples(3, seed=0, vocab=nlp.vocab)
    losses = {}
    encoder_pass = EncoderPass(encoder, egs, drop=0.0, losses=losses)
    for i in firing:
        heads_gradient(nlp, encoder.listeners[i], egs)
    assert not calls
    encoder_pass.backprop()
    (gradient,) = calls
    for one in gradient:
        numpy.testing.assert_array_equal(one, len(firing))
    assert bool(losses["tok2vec"]) == bool(firing)


def test_gradient_equals_spacys_own_where_spacy_is_right():
    gradients = []
    for distil in (True, False):
        nlp = build()
        encoder, egs = nlp.get_pipe("tok2vec"), examples(3, seed=0, vocab=nlp.vocab)
        fix_random_seed(0)
        if distil:
            encoder_pass = EncoderPass(encoder, egs, drop=0.1, losses={})
        else:
            encoder.update(egs, drop=0.1, losses={})
        for listener in encoder.listeners:
            heads_gradient(nlp, listener, egs)
        if distil:
            encoder_pass.backprop()
        gradients.append([n.get_grad(k) for n in encoder.model.walk() for k in n.param_names if n.has_grad(k)])
    assert len(gradients[0]) > 3
    for one, other in zip(*gradients, strict=True):
        numpy.testing.assert_array_equal(one, other)


def test_encoder_without_listeners_has_no_backward_pass(counted):
    nlp, encoder, calls = counted
    encoder.listener_map.clear()
    EncoderPass(encoder, examples(3, seed=0, vocab=nlp.vocab), drop=0.0, losses={}).backprop()
    assert not calls
