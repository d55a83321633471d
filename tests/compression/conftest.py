"""A pipeline of a tagger and a classifier on one tiny random encoder."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from spacy.language import Language
from spacy.training import Example

from spacy_distil.compression.importance import LayerImportance
from spacy_distil.encoder.shim import DistilBertShim
from tests.pipeline.conftest import LISTENER, build, examples, tagger, textcat

__all__ = ["build"]
HEAD_WIDTH = 8


@pytest.fixture
def nlp(build: Callable[..., Language]) -> Language:
    """4 layers of 4 heads and 48 neurons, in float32, 32 wide."""
    nlp = build(tagger=tagger(LISTENER), textcat=textcat(LISTENER))
    for name in ("tagger", "textcat"):
        randomize_head(nlp, name)
    return nlp


def randomize_head(nlp: Language, name: str) -> None:
    """Give a component weights by which its loss reaches the encoder: some start with zeros."""
    generator = np.random.default_rng(0)
    for node in nlp.get_pipe(name).model.walk():
        for parameter in node.param_names:  # none of the encoder's: those are torch's
            value = node.get_param(parameter)
            node.set_param(parameter, generator.normal(scale=0.3, size=value.shape).astype("float32"))


@pytest.fixture
def corpus(nlp: Language) -> list[Example]:
    return examples(nlp)


@pytest.fixture
def shim(nlp: Language) -> DistilBertShim:
    return nlp.get_pipe("distilbert").shim


def close_head(shim: DistilBertShim, layer: int, head: int, gate: float = 0.0) -> None:
    """Multiply what a head gives by a gate."""
    columns = shim.encoder.layers[layer].attention.out_lin.weight.data
    columns[:, head * HEAD_WIDTH : (head + 1) * HEAD_WIDTH] *= gate
    shim._plan = None


def close_neuron(shim: DistilBertShim, layer: int, neuron: int, gate: float = 0.0) -> None:
    shim.encoder.layers[layer].ffn.lin2.weight.data[:, neuron] *= gate
    shim._plan = None


def random_importance(n_layers: int, n_heads: int = 4, n_neurons: int = 48) -> list[LayerImportance]:
    return [
        LayerImportance(torch.rand(n_heads).double().numpy(), torch.rand(n_neurons).double().numpy())
        for _ in range(n_layers)
    ]
