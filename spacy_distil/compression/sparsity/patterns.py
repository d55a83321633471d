"""What is pruned together: single weights, blocks of them, or so many in each group."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spacy_distil.compression.errors import CompressionError


@dataclass(frozen=True)
class Blocks:
    """Blocks of a matrix, each pruned or kept as a whole (Lagunas et al. 2021); of 1 x 1, single weights."""

    rows: int = 1
    columns: int = 1

    sparsity = None  # any

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"

    def check(self, shapes: Mapping[str, torch.Size]) -> None:
        """Raises CompressionError where it does not divide a shape, (rows, columns)."""
        for name, (rows, columns) in shapes.items():
            if rows % self.rows or columns % self.columns:
                raise CompressionError(
                    f"Blocks of {self} do not divide {name}, which is {rows}x{columns}. Take one that does, such as "
                    f"{math.gcd(rows, self.rows)}x{math.gcd(columns, self.columns)}"
                    + (", or leave the embeddings out." if name.startswith("embeddings.") else ".")
                )

    def pool(self, weights: Tensor) -> Tensor:
        """The sum in each block: (rows, columns) to (blocks down, blocks across)."""
        rows, columns = weights.shape
        return weights.view(rows // self.rows, self.rows, columns // self.columns, self.columns).sum(dim=(1, 3))

    def spread(self, blocks: Tensor) -> Tensor:
        """What holds for a block, for each of its weights: the way back of `pool`."""
        return blocks.repeat_interleave(self.rows, dim=0).repeat_interleave(self.columns, dim=1)

    def rank(self, scores: Tensor) -> Tensor:
        return scores


@dataclass(frozen=True)
class NOfM:
    """Of each `of` weights side by side in a row, the inputs of a neuron, `kept` stay (Zhou et al. 2021; 2:4: Mishra et al.
    2021)."""

    kept: int
    of: int

    def __post_init__(self) -> None:
        if not 0 < self.kept < self.of:
            raise CompressionError(f"The pattern {self}: of {self.of} weights 1 to {max(1, self.of - 1)} can be kept.")

    def __str__(self) -> str:
        return f"{self.kept}:{self.of}"

    @property
    def sparsity(self) -> float:
        return 1.0 - self.kept / self.of

    def check(self, shapes: Mapping[str, torch.Size]) -> None:
        """Raises CompressionError where it does not divide a shape, (rows, columns)."""
        for name, (rows, columns) in shapes.items():
            if columns % self.of:
                raise CompressionError(
                    f"The pattern {self} needs rows that groups of {self.of} fill, and {name} is {rows}x{columns}. Take a "
                    f"pattern of groups that divide {columns}."
                )

    def pool(self, weights: Tensor) -> Tensor:
        return weights

    def spread(self, weights: Tensor) -> Tensor:
        return weights

    def rank(self, scores: Tensor) -> Tensor:
        """The scores, with infinity for those that are kept in the end: on the way there they are not pruned either."""
        groups = scores.view(-1, self.of)
        return groups.scatter(1, groups.topk(self.kept, dim=1).indices, torch.inf).view(scores.shape)


Pattern = Blocks | NOfM


def read_pattern(text: str | None) -> Pattern:
    """`2:4`, `32x32`, or None for single weights. Raises CompressionError for what is none."""
    if text is None:
        return Blocks()
    if match := re.fullmatch(r"(\d+):(\d+)", str(text)):
        return NOfM(int(match[1]), int(match[2]))
    if (match := re.fullmatch(r"(\d+)x(\d+)", str(text))) and int(match[1]) and int(match[2]):
        return Blocks(int(match[1]), int(match[2]))
    raise CompressionError(
        f"The pattern {text!r} is not known. There are N:M, such as 2:4, and blocks of rows x columns, such as 32x32."
    )
