"""Sequences of piece ids, made by a component itself: a question and its passage, a sentence to translate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spacy_distil.encoder.packed import Packed
from spacy_distil.encoder.pieces import split_by_budget
from spacy_distil.errors import EncoderError


@dataclass(frozen=True)
class Sequences:
    """Sequences to encode as they are: nothing is added to them, and none is cut.

    ids: (pieces,) piece ids, sequence after sequence, `[CLS]` and `[SEP]` included.
    lengths: pieces of each sequence, at least one.
    types: (pieces,) token types, or None where all are of type 0. An encoder without token types passes them over.
    """

    ids: Tensor
    lengths: tuple[int, ...]
    types: Tensor | None = None

    @classmethod
    def from_lists(cls, ids: Sequence[Sequence[int]], types: Sequence[Sequence[int]] | None = None) -> Sequences:
        return cls(_flatten(ids), tuple(len(row) for row in ids), None if types is None else _flatten(types))

    def check(self, max_positions: int) -> None:
        """Raises EncoderError for a sequence that is empty or longer than the encoder's positions."""
        for i, length in enumerate(self.lengths):
            if not 1 <= length <= max_positions:
                raise EncoderError(
                    f"Sequence {i} has {length} pieces, and the encoder takes 1 to {max_positions}. Cut it before."
                )

    def batches(self, max_batch_pieces: int) -> Iterator[tuple[Packed, Tensor]]:
        """Batches of sequences of like length, each at most `max_batch_pieces` long, or a single sequence; and the rows,
        (pieces of the batch,), that its pieces have among all."""
        lengths = torch.tensor(self.lengths, dtype=torch.long)
        starts = lengths.cumsum(0) - lengths
        order = torch.argsort(lengths, stable=True)
        for first, last in split_by_budget(lengths[order].numpy(), max_batch_pieces):
            members = order[first:last]
            sizes = lengths[members]
            within = torch.arange(int(sizes.sum())) - torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
            rows = torch.repeat_interleave(starts[members], sizes) + within
            types = None if self.types is None else self.types[rows]
            yield Packed.from_ids(self.ids[rows], sizes.tolist(), types).filled(max_batch_pieces), rows


def _flatten(rows: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor([value for row in rows for value in row], dtype=torch.long)
