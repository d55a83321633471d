"""What is read and what is written, as pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from spacy_distil.encoder.sequences import Sequences
from spacy_distil.encoder.tokenizer import PieceTokenizer

Ids = Sequence[int]


@dataclass(frozen=True)
class Sources:
    """Texts to read. Each is one or several sequences of source pieces, `[CLS]` and `[SEP]` included; those of one text are
    encoded apart, and the decoder attends to all of them (Izacard and Grave 2021, "Fusion-in-Decoder")."""

    texts: tuple[tuple[Ids, ...], ...]

    @classmethod
    def of(cls, texts: Sequence[Sequence[Ids]], tokenizer: PieceTokenizer) -> Sources:
        """Texts in windows of pieces to which `[CLS]` and `[SEP]` have yet to be added."""
        first, last = tokenizer.cls_id, tokenizer.sep_id
        return cls(tuple(tuple((first, *ids, last) for ids in windows) for windows in texts))

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Pieces of each text."""
        return tuple(sum(map(len, windows)) for windows in self.texts)

    @cached_property
    def sequences(self) -> Sequences:
        return Sequences.from_lists([window for windows in self.texts for window in windows])

    def choose(self, numbers: Sequence[int]) -> Sources:
        return Sources(tuple(self.texts[i] for i in numbers))


@dataclass(frozen=True)
class Pairs:
    """Texts and what is to be written for each.

    targets: target pieces, without the special ones at both ends.
    """

    sources: Sources
    targets: tuple[Ids, ...]

    def __len__(self) -> int:
        return len(self.targets)

    def inputs(self, start_id: int) -> list[list[int]]:
        """What the decoder reads: each target after the piece that starts it."""
        return [[start_id, *target] for target in self.targets]

    def outputs(self, end_id: int) -> Tensor:
        """(rows,) what it has to write: each target and the piece that ends it, target after target."""
        return torch.tensor([i for target in self.targets for i in (*target, end_id)], dtype=torch.long)


class Grid:
    """Rows of sequences, one after the other, laid out as a padded grid and back.

    lengths: rows of each sequence.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        sizes = torch.tensor(lengths, dtype=torch.long)
        self.n_sequences, self.longest = len(lengths), int(sizes.max())
        positions = torch.arange(self.longest)
        self.keep = (positions < sizes[:, None]).to(device)
        """(sequences, longest) where there is a row"""
        self.cells = self.keep.flatten().nonzero()[:, 0]

    def pad(self, rows: Tensor) -> Tensor:
        """(rows, width), perhaps with filler behind, to (sequences, longest, width)"""
        grid = rows.new_zeros(self.n_sequences * self.longest, rows.shape[1])
        grid = grid.index_copy(0, self.cells, rows[: len(self.cells)])
        return grid.view(self.n_sequences, self.longest, -1)

    def unpad(self, grid: Tensor) -> Tensor:
        """(sequences, longest, width) to (rows, width)"""
        return grid.reshape(self.n_sequences * self.longest, -1).index_select(0, self.cells)
