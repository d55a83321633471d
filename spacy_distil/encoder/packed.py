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

    ids: (pieces,) piece ids, sequence after sequence, then filler, if any.
    positions: (pieces,) position of each piece in its sequence.
    lengths: pieces of each sequence; what is beyond their sum is filler, which nothing attends to.
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
        sizes = torch.tensor(lengths, dtype=torch.long)
        positions = torch.arange(len(ids)) - torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
        return cls(ids=ids, positions=positions.to(ids.device), lengths=tuple(lengths), types=types)

    @property
    def n_filler(self) -> int:
        return len(self.ids) - sum(self.lengths)

    def filled(self, budget: int) -> Packed:
        """With filler up to one of few sizes, of which each octave has four, or up to the budget.

        oneDNN compiles its products for every number of rows that it meets and keeps each with its buffers, some 10 MB:
        without this, memory would grow with every new batch, and each would wait for the compiler.
        """
        n_pieces = len(self.ids)
        step = max(16, 1 << max(0, n_pieces.bit_length() - 3))
        n_filler = max(0, min(-(-n_pieces // step) * step, budget) - n_pieces)
        ids, positions = (torch.cat([t, t.new_zeros(n_filler)]) for t in (self.ids, self.positions))
        types = None if self.types is None else torch.cat([self.types, self.types.new_zeros(n_filler)])
        return Packed(ids=ids, positions=positions, lengths=self.lengths, types=types)

    def to(self, device: torch.device) -> Packed:
        types = None if self.types is None else self.types.to(device, non_blocking=True)
        ids, positions = (t.to(device, non_blocking=True) for t in (self.ids, self.positions))
        return Packed(ids=ids, positions=positions, lengths=self.lengths, types=types)

    def runs(self) -> list[Run]:
        return [Run(sum(1 for _ in group), length) for length, group in groupby(self.lengths)]
