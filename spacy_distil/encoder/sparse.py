"""Matrices with many zeros, as a file holds them: their values, and where they stand, in whichever of two ways is smaller.

bitmap: a bit for every weight, 1 where it is kept, the first weight in the lowest bit.
gaps: for every kept weight how many steps it lies behind the one before, in as many bytes as the widest gap needs.

Nothing is rounded: a matrix comes back bit by bit, -0.0 too, which counts as a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy
import torch
from torch import Tensor

VALUES, BITMAP, GAPS = ".values", ".bitmap", ".gaps"
BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.int8: torch.int8}
"""The types of which matrices are stored sparse, and a whole number of each one's size, to see its bits as."""


def compress(weights: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Weights with those matrices named replaced by their parts, where these are smaller.

    weights: contiguous, on the CPU.
    """
    stored = dict(weights)
    for name in names:
        matrix = weights[name]
        parts = _take_apart(matrix)
        if sum(part.nbytes for part in parts.values()) < matrix.nbytes:
            del stored[name]
            stored |= {name + kind: part for kind, part in parts.items()}
    return stored


def restore(stored: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The weights of what `compress` has given.

    shapes: those of all weights.
    Raises ValueError for parts that don't belong together.
    """
    weights = dict(stored)
    for name in [key.removesuffix(VALUES) for key in stored if key.endswith(VALUES)]:
        parts = {kind: weights.pop(name + kind) for kind in (VALUES, BITMAP, GAPS) if name + kind in weights}
        if name not in shapes:
            raise ValueError(f"there is no matrix {name!r}")
        try:
            weights[name] = _put_together(parts, shapes[name])
        except ValueError as error:
            raise ValueError(f"{name!r}: {error}") from None
    return weights


def _take_apart(matrix: Tensor) -> dict[str, Tensor]:
    flat = matrix.flatten()
    kept = (flat.view(BITS[flat.dtype]) != 0).numpy()
    places = numpy.flatnonzero(kept)
    gaps = numpy.diff(places, prepend=-1)
    width = -(-int(gaps.max(initial=1)).bit_length() // 8)
    values = {VALUES: flat[torch.from_numpy(kept)]}
    if len(gaps) * width < len(flat) / 8:
        # The lowest bytes of little-endian numbers.
        return {**values, GAPS: torch.from_numpy(gaps.astype("<i8").view(numpy.uint8).reshape(-1, 8)[:, :width].copy())}
    return {**values, BITMAP: torch.from_numpy(numpy.packbits(kept, bitorder="little"))}


def _put_together(parts: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
    values = parts[VALUES]
    if values.dim() != 1 or values.dtype not in BITS or len(parts) != 2:
        raise ValueError("its values are not numbers in a row, or it is not said where they stand")
    places = _from_bitmap(parts[BITMAP], shape) if BITMAP in parts else _from_gaps(parts[GAPS], shape)
    if len(places) != len(values):
        raise ValueError(f"it has {len(values)} values for {len(places)} places")
    matrix = torch.zeros(shape.numel(), dtype=values.dtype)
    matrix[torch.from_numpy(places)] = values
    return matrix.view(shape)


def _from_bitmap(bitmap: Tensor, shape: torch.Size) -> numpy.ndarray:
    if bitmap.dtype != torch.uint8 or bitmap.shape != (-(-shape.numel() // 8),):
        raise ValueError(f"a bitmap of {bitmap.numel()} bytes is not that of {shape.numel()} weights")
    bits = numpy.unpackbits(bitmap.numpy(), bitorder="little")
    if bits[shape.numel() :].any():
        raise ValueError("its bitmap goes beyond its last weight")
    return numpy.flatnonzero(bits)


def _from_gaps(gaps: Tensor, shape: torch.Size) -> numpy.ndarray:
    if gaps.dtype != torch.uint8 or gaps.dim() != 2 or not 1 <= gaps.shape[1] <= 8:
        raise ValueError("its gaps are not numbers of 1 to 8 bytes")
    whole = numpy.zeros((len(gaps), 8), dtype=numpy.uint8)
    whole[:, : gaps.shape[1]] = gaps.numpy()
    steps = whole.view("<i8").flatten()
    places = numpy.cumsum(steps) - 1
    # One by one: a sum of damaged gaps may overflow and come back into range.
    if ((steps < 1) | (steps > shape.numel())).any() or (len(places) and places[-1] >= shape.numel()):
        raise ValueError("its gaps lead out of it")
    return places
