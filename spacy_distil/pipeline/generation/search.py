"""What to write: the likeliest piece at each step, or the likeliest text that a beam finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from spacy_distil.errors import ComponentError


class Writer(Protocol):
    """What a search needs of a decoder: see `inference.Decoding`."""

    def step(self, ids: Tensor) -> Tensor: ...
    def reorder(self, rows: Tensor) -> None: ...
    def keep(self, sources: Tensor) -> None: ...


@dataclass(frozen=True)
class Rules:
    """What is never written, and where a text starts and ends.

    start, end: pieces that start and end each text.
    silent: pieces that are never written.
    """

    start: int
    end: int
    silent: tuple[int, ...] = ()


@torch.inference_mode()
def greedy(writer: Writer, limits: Sequence[int], rules: Rules) -> list[list[int]]:
    """The likeliest piece at each step, until it is the end.

    limits: the most pieces that may be written for each source.
    RETURNS: for each source its pieces, without start and end.
    """
    written: list[list[int]] = [[] for _ in limits]
    alive = list(range(len(limits)))
    ids = torch.full((len(limits),), rules.start)
    silent = list(rules.silent)
    for position in range(max(limits)):
        logits = writer.step(ids)
        logits[:, silent] = float("-inf")
        ids = logits.argmax(dim=1)
        pieces = ids.tolist()
        kept = []
        for row, (source, piece) in enumerate(zip(alive, pieces, strict=True)):
            if piece != rules.end:
                written[source].append(piece)
                if position + 1 < limits[source]:
                    kept.append(row)
        if not kept:
            break
        if len(kept) < len(alive):
            rows = torch.tensor(kept)
            writer.keep(rows)
            ids, alive = ids[rows], [alive[row] for row in kept]
    return written
