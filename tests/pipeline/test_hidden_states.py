"""The component `distilbert` takes a gradient of hidden states beside those of its listeners."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from spacy.language import Language
from thinc.api import Optimizer

from spacy_distil.errors import EncoderError
from tests.pipeline.conftest import LISTENER, Build, examples, tagger


def gradients(nlp: Language, *, layers: bool, listener: bool) -> dict[str, torch.Tensor]:
    """The parameters' gradients of ones, with respect to the states of two layers, the tagger's rows, or both."""
    pipe = nlp.get_pipe("distilbert")
    egs = examples(nlp)
    pending = pipe.begin_update(egs, layers=(1, 4) if layers else ())
    if layers:
        assert pending.encoded.layers.shape == (2, sum(len(eg.x) for eg in egs), 32)
        pending.receive_layers(torch.ones_like(pending.encoded.layers))
    if listener:
        rows, backprop = pipe.listeners[0]([eg.x for eg in egs], is_train=True)
        backprop([np.ones_like(part) for part in rows])
    pending.finish()
    taken = {name: p.grad for name, p in pipe.shim.encoder.named_parameters()}
    for parameter in pipe.shim.encoder.parameters():
        parameter.grad = None
    return taken


def test_gradients_of_states_and_listeners_add_up(build: Build):
    nlp = build(tagger=tagger(LISTENER))
    both = gradients(nlp, layers=True, listener=True)
    states, rows = gradients(nlp, layers=True, listener=False), gradients(nlp, layers=False, listener=True)
    for name in both:
        torch.testing.assert_close(both[name], states[name] + rows[name], rtol=1e-3, atol=1e-3)


def test_states_teach_an_encoder_to_which_nobody_listens(build: Build):
    nlp = build()
    pipe = nlp.get_pipe("distilbert")
    assert pipe.begin_update(examples(nlp)) is None
    before = pipe.shim.to_bytes()
    pending = pipe.begin_update(examples(nlp), layers=(2,), losses=(losses := {}))
    pending.receive_layers(torch.ones_like(pending.encoded.layers))
    pipe.finish_update(Optimizer(0.01))
    assert pipe.shim.to_bytes() != before
    assert losses["distilbert"] > 0
    pickle.dumps(nlp)


def test_a_gradient_of_states_that_comes_late_is_an_error(build: Build):
    nlp = build(tagger=tagger(LISTENER))
    pipe = nlp.get_pipe("distilbert")
    pending = pipe.begin_update(examples(nlp), layers=(2,))
    states = pending.encoded.layers
    pending.finish()
    with pytest.raises(EncoderError, match="after the last listener"):
        pending.receive_layers(torch.ones_like(states))
