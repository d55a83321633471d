"""Sequences side by side, without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor


@dataclass(frozen=True)
class Run:
    """Neighbouring sequences of one length: they attend in one call, with no mask."""

    n_sequences: int
    length: int

    @property
    def n_pieces(self) -> int:
        return self.n_sequences * self.length


@dataclass(frozen=True)
class Packed:
    """A batch of sequences as one row of pieces.

    ids: (pieces,) piece ids, sequence after sequence.
    positions: (pieces,) position of each piece in its sequence.
    lengths: pieces of each sequence, their sum is the number of pieces.
    types: (pieces,) token types, or None where all are of type 0.
    """

    ids: Tensor
    positions: Tensor
    lengths: tuple[int, ...]
    types: Tensor | None = None

    @classmethod
    def from_lists(cls, sequences: Sequence[Sequence[int]], types: Sequence[Sequence[int]] | None = None) -> Packed:
        """Pack lists of piece ids, best sorted by length: only neighbours of one length share an attention call."""
        flat = [i for sequence in sequences for i in sequence]
        return cls.from_ids(
            torch.tensor(flat, dtype=torch.long),
            [len(sequence) for sequence in sequences],
            None if types is None else torch.tensor([t for row in types for t in row], dtype=torch.long),
        )

    @classmethod
    def from_ids(cls, ids: Tensor, lengths: Sequence[int], types: Tensor | None = None) -> Packed:
        positions = torch.cat([torch.arange(n, device=ids.device) for n in lengths])
        return cls(ids=ids, positions=positions, lengths=tuple(lengths), types=types)

    def to(self, device: torch.device) -> Packed:
        types = None if self.types is None else self.types.to(device, non_blocking=True)
        ids, positions = (t.to(device, non_blocking=True) for t in (self.ids, self.positions))
        return Packed(ids=ids, positions=positions, lengths=self.lengths, types=types)

    def runs(self) -> list[Run]:
        return [Run(sum(1 for _ in group), length) for length, group in groupby(self.lengths)]
