"""What stays under a budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from spacy_distil.compression.budget import GROUP, check_budget, choose_parts, multiply_adds
from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.importance import LayerImportance
from spacy_distil.compression.structured import shape_of, whole_layers
from spacy_distil.encoder.config import EncoderConfig, LayerConfig
from spacy_distil.encoder.module import DistilBertEncoder
from spacy_distil.encoder.packed import Packed
from tests.compression.conftest import random_importance

CONFIG = EncoderConfig(
    vocab_size=100, width=32, head_width=8, max_positions=64, layers=(LayerConfig(4, 48), LayerConfig(4, 48))
)


def test_multiply_adds_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    config = replace(CONFIG, layers=(LayerConfig(4, 48), LayerConfig(3, 16)))
    encoder = DistilBertEncoder(config)
    with FlopCounterMode(display=False) as counter:
        encoder(Packed.from_lists([list(range(20))] * 3))
    assert counter.get_total_flops() == 2 * 60 * multiply_adds(config, length=20)


@pytest.mark.parametrize("compute", [0.3, 0.5, 0.75, 1.0])
def test_the_share_is_kept_and_used(compute):
    for seed in range(5):
        torch.manual_seed(seed)
        parts = choose_parts(CONFIG, random_importance(2), compute)
        share = multiply_adds(shape_of(CONFIG, parts)) / multiply_adds(CONFIG)
        largest = max(8 * (4 * 32 + 2 * 128), GROUP * 2 * 32) / multiply_adds(CONFIG)
        assert compute - largest < share <= compute


def test_what_is_worth_least_for_its_cost_goes_first_whatever_its_layer():
    heads = 8 * (4 * 32 + 2 * 128)
    group = GROUP * 2 * 32
    importance = [
        LayerImportance(np.array([9.0, 9.0, 9.0, 0.2]) * heads, np.full(48, 9.0) * 2 * 32),
        LayerImportance(np.full(4, 9.0) * heads, np.repeat([0.1, 9.0, 9.0], GROUP) * 2 * 32),
    ]
    total = multiply_adds(CONFIG)
    neurons_only = choose_parts(CONFIG, importance, (total - group) / total)
    assert [part.heads for part in neurons_only] == [(0, 1, 2, 3)] * 2
    assert neurons_only[1].neurons == tuple(range(GROUP, 48))
    both = choose_parts(CONFIG, importance, (total - group - heads) / total)
    assert [part.heads for part in both] == [(0, 1, 2), (0, 1, 2, 3)]
    assert [len(part.neurons) for part in both] == [48, 32]


def test_a_layer_keeps_its_best_head_and_its_best_neurons():
    importance = random_importance(2)
    importance[0] = LayerImportance(importance[0].heads * 1e-9, importance[0].neurons * 1e-9)
    head = int(importance[0].heads.argmax())
    best = tuple(sorted(importance[0].neurons.argsort()[-GROUP:].tolist()))
    first, _ = choose_parts(CONFIG, importance, 0.5)
    assert first.heads == (head,)
    assert first.neurons == best


def test_widths_become_multiples_of_a_group():
    config = replace(CONFIG, layers=(LayerConfig(4, 43), LayerConfig(4, 43)))
    for compute in (0.3, 0.5, 0.8, 0.95):
        parts = choose_parts(config, random_importance(2, n_neurons=43), compute)
        assert all(len(part.neurons) == 43 or len(part.neurons) % GROUP == 0 for part in parts)


def test_few_neurons_are_one_group():
    config = replace(CONFIG, layers=(LayerConfig(4, 10),))
    (part,) = choose_parts(config, random_importance(1, n_neurons=10), 0.4)
    assert part.neurons == tuple(range(10))


def test_layers_that_go_count_for_the_budget():
    assert choose_parts(CONFIG, random_importance(2), 0.5, layers=[1]) == whole_layers(CONFIG, [1])
    (part,) = choose_parts(CONFIG, random_importance(2), 0.3, layers=[1])
    assert part.layer == 1
    assert len(part.heads) < 4 or len(part.neurons) < 48


def test_any_cost_of_a_shape_will_do():
    def heads_alone(config: EncoderConfig) -> float:
        return 1.0 + sum(layer.n_heads for layer in config.layers)

    parts = choose_parts(CONFIG, random_importance(2), 0.5, cost=lambda c: heads_alone(c) + 1e-6 * multiply_adds(c))
    assert sum(len(part.heads) for part in parts) <= 4


def test_a_budget_that_no_layer_survives_is_an_error():
    with pytest.raises(CompressionError, match=r"compute = 0.1: with one head and 16 neurons in each of its 2 layers"):
        check_budget(CONFIG, 0.1)
    check_budget(replace(CONFIG, layers=(LayerConfig(40, 480),) * 2), 0.1, layers=[0])
