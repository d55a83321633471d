"""Pruned matrices on disk: smaller, exact, and never misread."""

from __future__ import annotations

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spacy_distil.encoder import sparse

ODD_FLOATS = [1.5, -2.0, 1e-45, -1e-45, float("inf"), float("nan"), -0.0, 3.4e38]


def same_bits(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.view(torch.int32), other.view(torch.int32))


def round_trip(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return sparse.restore(sparse.compress(weights, list(weights)), {name: w.shape for name, w in weights.items()})


def random_matrix(rows: int, columns: int, kept: float, seed: int = 0) -> Tensor:
    generator = numpy.random.default_rng(seed)
    values = generator.standard_normal((rows, columns)).astype("float32")
    return torch.from_numpy(numpy.where(generator.random((rows, columns)) < kept, values, numpy.float32(0)))


@given(st.data())
def test_every_matrix_comes_back_bit_by_bit(data):
    rows, columns = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 40))
    floats = st.one_of(st.just(0.0), st.floats(width=32), st.sampled_from(ODD_FLOATS))
    cells = data.draw(st.lists(floats, min_size=rows * columns, max_size=rows * columns))
    matrix = torch.tensor(cells, dtype=torch.float32).view(rows, columns)
    assert same_bits(round_trip({"m": matrix})["m"], matrix)


@given(
    kept=st.sampled_from([0.0, 0.0002, 0.001, 0.01, 0.05, 0.1, 0.4, 0.95, 1.0]),
    rows=st.integers(1, 300),
    columns=st.integers(1, 300),
    seed=st.integers(0, 2**16),
)
def test_every_sparsity_comes_back_and_none_grows(kept, rows, columns, seed):
    matrix = random_matrix(rows, columns, kept, seed)
    stored = sparse.compress({"m": matrix}, ["m"])
    assert sum(part.nbytes for part in stored.values()) <= matrix.nbytes
    assert same_bits(sparse.restore(stored, {"m": matrix.shape})["m"], matrix)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int8])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.1, 0.4, 0.95])
def test_rounded_numbers_come_back_in_their_own_type(dtype, kept):
    matrix = (random_matrix(40, 60, kept) * 40).to(dtype)
    stored = sparse.compress({"m": matrix}, ["m"])
    assert sum(part.nbytes for part in stored.values()) <= matrix.nbytes
    restored = sparse.restore(stored, {"m": matrix.shape})["m"]
    assert restored.dtype == dtype
    assert torch.equal(restored, matrix)


@given(places=st.sets(st.sampled_from([0, 1, 254, 255, 256, 257, 511, 512, 65535, 65536, 65791, 131071]), min_size=1))
def test_gaps_of_every_width_come_back(places):
    matrix = torch.zeros(2, 65536)
    matrix.view(-1)[sorted(places)] = 1.0
    stored = sparse.compress({"m": matrix}, ["m"])
    widest = max(numpy.diff([-1, *sorted(places)]))
    assert stored["m.gaps"].shape == (len(places), 1 if widest < 256 else 2 if widest < 65536 else 3)
    assert same_bits(sparse.restore(stored, {"m": matrix.shape})["m"], matrix)


@pytest.mark.parametrize(
    ("kept", "kinds"), [(1.0, {"m"}), (0.4, {"m.values", "m.bitmap"}), (0.02, {"m.values", "m.gaps"})]
)
def test_the_smaller_way_is_taken(kept, kinds):
    assert set(sparse.compress({"m": random_matrix(64, 64, kept)}, ["m"])) == kinds


def test_a_bitmap_costs_a_bit_a_weight():
    matrix = random_matrix(64, 64, 0.4)
    stored = sparse.compress({"m": matrix}, ["m"])
    assert sum(part.nbytes for part in stored.values()) == 4 * int(matrix.count_nonzero()) + 64 * 64 // 8


def test_other_weights_stay_as_they_are():
    weights = {"m": random_matrix(64, 64, 0.1), "other": torch.zeros(64, 64), "bias": torch.zeros(64)}
    stored = sparse.compress(weights, ["m"])
    assert stored["other"] is weights["other"]
    assert stored["bias"] is weights["bias"]


BITMAP = random_matrix(10, 10, 0.4)
GAPS = random_matrix(100, 10, 0.02)


def negative(gaps: Tensor) -> Tensor:
    wide = torch.zeros(len(gaps), 8, dtype=torch.uint8)
    wide[:, 0] = gaps[:, 0]
    wide[3] = 255  # -1
    return wide


@pytest.mark.parametrize(
    ("matrix", "damage", "error"),
    [
        (BITMAP, lambda parts: {"m.values": parts["m.values"]}, "not said where they stand"),
        (BITMAP, lambda parts: {**parts, "m.values": parts["m.values"][1:]}, "values for"),
        (BITMAP, lambda parts: {**parts, "m.values": parts["m.values"][None]}, "not numbers in a row"),
        (BITMAP, lambda parts: {**parts, "m.values": parts["m.values"].int()}, "not numbers in a row"),
        (BITMAP, lambda parts: {**parts, "m.bitmap": parts["m.bitmap"][1:]}, "a bitmap of 12 bytes is not that of 100"),
        (BITMAP, lambda parts: {**parts, "m.bitmap": parts["m.bitmap"] | 128}, "goes beyond its last weight"),
        (BITMAP, lambda parts: {**parts, "m.bitmap": parts["m.bitmap"] ^ 1}, "values for"),
        (BITMAP, lambda parts: {**parts, "m.gaps": parts["m.bitmap"]}, "not said where they stand"),
        (BITMAP, lambda parts: {f"x{name}": part for name, part in parts.items()}, "there is no matrix 'xm'"),
        (GAPS, lambda parts: {**parts, "m.gaps": parts["m.gaps"][1:]}, "values for"),
        (GAPS, lambda parts: {**parts, "m.gaps": parts["m.gaps"] * 0}, "lead out of it"),
        (GAPS, lambda parts: {**parts, "m.gaps": parts["m.gaps"] * 0 + 255}, "lead out of it"),
        (GAPS, lambda parts: {**parts, "m.gaps": negative(parts["m.gaps"])}, "lead out of it"),
        (GAPS, lambda parts: {**parts, "m.gaps": parts["m.gaps"].flatten()}, "not numbers of 1 to 8 bytes"),
    ],
)
def test_damaged_parts_are_an_error(matrix, damage, error):
    parts = sparse.compress({"m": matrix}, ["m"])
    assert len(parts) == 2
    with pytest.raises(ValueError, match=error):
        sparse.restore(damage(parts), {"m": matrix.shape})
