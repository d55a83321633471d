"""Weights as a file holds them: rounded once, and never again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spacy_distil.encoder.storage import dequantize_rows, pack, quantize_rows, unpack


@given(seed=st.integers(0, 2**16), exponent=st.integers(-30, 30), rows=st.integers(1, 9), columns=st.integers(1, 70))
def test_a_weight_moves_by_half_a_step_and_once(seed, exponent, rows, columns):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, columns, generator=generator) * 2.0**exponent
    values, scale = quantize_rows(matrix)
    assert values.dtype == torch.int8
    assert values.abs().amax(dim=1).eq(127).all()
    rounded = dequantize_rows(values, scale)
    assert ((rounded - matrix).abs() <= scale[:, None] * 0.5001).all()
    assert (scale <= matrix.abs().amax(dim=1) / 127 * (1 + 2**-14)).all()
    again, same_scale = quantize_rows(rounded)
    assert torch.equal(again, values)
    assert torch.equal(same_scale, scale)


def test_zeros_stay_zeros():
    matrix = torch.tensor([[0.0, 0.0, 0.0], [0.0, 5.0, -2.6]])
    values, scale = quantize_rows(matrix)
    assert values.tolist() == [[0, 0, 0], [0, 127, -66]]
    assert torch.equal(dequantize_rows(values, scale)[0], matrix[0])


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"matrix": torch.randn(4, 6), "bias": torch.randn(4)}


def test_float32_is_left_as_it_is(weights):
    assert pack(weights, "float32", ["matrix"]) == weights == unpack(weights)


def test_bfloat16_halves_all(weights):
    packed = pack(weights, "bfloat16", ["matrix"])
    assert {value.dtype for value in packed.values()} == {torch.bfloat16}
    for name, value in unpack(packed).items():
        assert torch.equal(value, weights[name].bfloat16().float())


def test_int8_is_for_matrices(weights):
    packed = pack(weights, "int8", ["matrix"])
    assert {name: value.dtype for name, value in packed.items()} == {
        "matrix": torch.int8,
        "matrix.scale": torch.float32,
        "bias": torch.float32,
    }
    restored = unpack(packed)
    assert restored.keys() == weights.keys()
    assert torch.equal(restored["bias"], weights["bias"])
    assert torch.equal(restored["matrix"], dequantize_rows(*quantize_rows(weights["matrix"])))


@pytest.mark.parametrize("scale", [None, torch.ones(3), torch.ones(4).bfloat16()])
def test_a_scale_that_does_not_fit_is_an_error(weights, scale):
    packed = pack(weights, "int8", ["matrix"])
    del packed["matrix.scale"]
    if scale is not None:
        packed["matrix.scale"] = scale
    with pytest.raises(ValueError, match="'matrix' has no scale for each of its rows"):
        unpack(packed)
