"""Shapes and what they are called."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spacy_distil.compression.budget import multiply_adds
from spacy_distil.compression.search.shapes import WIDTHS, Shape, default_depths, even_parts, spread_layers
from spacy_distil.compression.structured import shape_of
from tests.compression.conftest import build, nlp, shim

__all__ = ["build", "nlp", "shim"]


def test_names_are_folders():
    assert [Shape(3).name, Shape(1).name, Shape(3, 0.5).name, Shape(2, 0.85).name] == [
        "3-layers",
        "1-layer",
        "3-layers-50",
        "2-layers-85",
    ]
    assert len({Shape(3, width).name for width in WIDTHS}) == len(WIDTHS)


@given(st.integers(1, 48))
def test_depths_are_from_all_layers_down_to_a_third(n_layers):
    depths = default_depths(n_layers)
    assert depths == sorted(set(depths), reverse=True)
    assert depths[0] == n_layers
    assert depths[-1] == -(-n_layers // 3) >= 1


def test_encoders_keep_layers_in_proportion(shim):
    deep = spread_layers({"one": shim, "other": shim}, 2)
    assert deep == {"one": [0, 2], "other": [0, 2]}
    assert spread_layers({"one": shim}, 4) == {"one": [0, 1, 2, 3]}


def test_even_parts_cost_their_share(shim):
    config = shim.encoder.config
    for compute in (1.0, 0.5, 0.25):
        parts = even_parts(config, [0, 2], compute)
        whole = multiply_adds(shape_of(config, even_parts(config, [0, 2], 1.0)))
        share = multiply_adds(shape_of(config, parts)) / whole
        assert abs(share - compute) < 0.15
    assert all(part.heads and part.neurons for part in even_parts(config, [0, 1], 0.01))
