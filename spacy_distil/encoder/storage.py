"""What a file holds in place of float32: bfloat16, or int8 with a scale for each row of a matrix.

A number that comes back is the same when it is stored again, so that a pipeline may be saved and loaded any number of times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

Storage = Literal["float32", "bfloat16", "int8"]
SCALE = ".scale"
LARGEST = 127  # int8 without -128: as many steps below zero as above


def quantize_rows(matrix: Tensor, largest: int = LARGEST) -> tuple[Tensor, Tensor]:
    """Symmetric int8: (rows, columns) in float32 to values of that shape, `largest` at most, and a scale for each row.

    A scale has 16 significant bits, so that its products with all values are exact in float32.
    """
    high = matrix.abs().amax(dim=1)
    bits = (high / largest).view(torch.int32)
    scale = torch.where(high > 0, ((bits + 0xFF) & ~0xFF).view(torch.float32), 1.0)
    return (matrix / scale[:, None]).round_().clamp_(-largest, largest).to(torch.int8), scale


def dequantize_rows(values: Tensor, scale: Tensor) -> Tensor:
    return values.float() * scale[:, None]


def pack(weights: Mapping[str, Tensor], storage: Storage, matrices: Iterable[str]) -> dict[str, Tensor]:
    """Weights in float32 as a file holds them.

    matrices: the names of those that become int8; what is small stays in float32 then.
    """
    if storage == "float32":
        return dict(weights)
    if storage == "bfloat16":
        return {name: value.to(torch.bfloat16) for name, value in weights.items()}
    packed = dict(weights)
    for name in matrices:
        packed[name], packed[name + SCALE] = quantize_rows(weights[name])
    return packed


def unpack(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of what `pack` has given, in float32. Raises ValueError for a scale that does not fit."""
    weights = dict(stored)
    for name, value in stored.items():
        if value.dtype == torch.int8:
            scale = weights.pop(name + SCALE, None)
            if scale is None or scale.dtype != torch.float32 or value.dim() != 2 or scale.shape != value.shape[:1]:
                raise ValueError(f"{name!r} has no scale for each of its rows")
            weights[name] = dequantize_rows(value, scale)
        elif value.dtype == torch.bfloat16:
            weights[name] = value.float()
    return weights
