"""Heads and neurons under a budget of time. No test looks at a clock: times are made up."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from spacy_distil.compression import seconds
from spacy_distil.compression.budget import choose_parts
from spacy_distil.compression.seconds import Seconds, make_batch, measure_seconds
from spacy_distil.compression.slim import slim
from spacy_distil.compression.structured import shape_of
from spacy_distil.encoder.config import EncoderConfig, LayerConfig
from tests.compression.conftest import random_importance

CONFIG = EncoderConfig(
    vocab_size=100, width=32, head_width=8, max_positions=64, layers=(LayerConfig(4, 48), LayerConfig(4, 48))
)


def test_the_time_of_a_shape_is_that_of_its_parts():
    cost = Seconds(beside=1.0, layer=0.5, head=0.1, neuron=0.01)
    assert cost(CONFIG) == pytest.approx(1.0 + 2 * 0.5 + 8 * 0.1 + 96 * 0.01)
    assert cost(replace(CONFIG, layers=(LayerConfig(1, 16),))) == pytest.approx(1.0 + 0.5 + 0.1 + 0.16)


def test_where_heads_take_all_of_the_time_it_is_they_that_go():
    parts = choose_parts(CONFIG, random_importance(2), 0.5, cost=Seconds(beside=0, layer=0, head=1.0, neuron=1e-9))
    assert sum(len(part.heads) for part in parts) <= 4
    parts = choose_parts(CONFIG, random_importance(2), 0.5, cost=Seconds(beside=0, layer=0, head=1e-9, neuron=1.0))
    assert sum(len(part.neurons) for part in parts) <= 48
    assert sum(len(part.heads) for part in parts) == 8


def test_what_each_part_takes_is_found_from_whole_encoders(shim, monkeypatch):
    true = Seconds(beside=0.3, layer=0.2, head=0.05, neuron=0.001)
    shapes = []

    def clock(plans, batch):
        shapes.extend([plan.layers for plan in plans])
        configs = [
            replace(
                shim.encoder.config,
                layers=tuple(LayerConfig(layer.n_heads, layer.lin1.bias.numel()) for layer in plan.layers),
            )
            for plan in plans
        ]
        return [true(config) for config in configs]

    monkeypatch.setattr(seconds, "time_in_turn", clock)
    found = measure_seconds(shim, ["a text", "another one, longer"])
    assert len(shapes) == 5
    assert vars(found) == pytest.approx(vars(true))


def test_a_batch_is_as_long_as_texts_are_and_no_longer_than_the_encoder_takes(shim):
    shim.options = replace(shim.options, max_batch_pieces=100)
    batch = make_batch(shim, ["a", "a b c d"])
    lengths = {len(encoding) + 2 for encoding in shim.tokenizer.encode(["a", "a b c d"])}
    assert set(batch.lengths) == lengths
    assert 100 - max(lengths) < len(batch.ids) <= 100


def test_slim_by_seconds_reaches_the_share_of_what_it_measured(nlp, corpus, monkeypatch):
    true = Seconds(beside=0.0, layer=0.0, head=1.0, neuron=0.01)
    monkeypatch.setattr("spacy_distil.compression.slim.measure_seconds", lambda shim, texts: true)
    torch.manual_seed(0)
    (slimmed,) = slim(nlp, corpus, compute=0.6, cost="seconds").values()
    assert slimmed.cost is true
    assert true(slimmed.after) <= 0.6 * true(slimmed.before)
    assert true(shape_of(slimmed.before, slimmed.parts)) == true(slimmed.after)
