"""Docs to packed pieces: tokenise, align, cut into windows, batch.

All of it works on arrays over the whole batch of Docs. Pieces, tokens and windows are numbered through from the first
Doc to the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from spacy.attrs import IDX, LENGTH
from spacy.tokens import Doc
from torch import Tensor

from spacy_distil.encoder.packed import Packed
from spacy_distil.encoder.tokenizer import PieceTokenizer

Ints1d = NDArray[np.int64]
N_SPECIAL = 2  # [CLS] and [SEP]


@dataclass(frozen=True)
class Pieces:
    """The pieces of a batch of Docs, and the pieces of each token.

    ids: (pieces,)
    doc_ends: (docs,) the piece after each Doc's last.
    token_starts, token_ends: (tokens,) each token's range of pieces. It is empty for a token without a piece of its own
        (white space, control characters, whatever the normaliser removes). Ranges overlap where one piece spans
        several tokens.
    """

    ids: Ints1d
    doc_ends: Ints1d
    token_starts: Ints1d
    token_ends: Ints1d


@dataclass(frozen=True)
class Windows:
    """Ranges of pieces that are encoded together, between `[CLS]` and `[SEP]`.

    docs: (windows,) the Doc of each.
    starts, ends: (windows,) its range of pieces. Windows of one Doc overlap.
    homes: (windows,) the first piece that is taken from this window; it is taken up to the next window's home.
    """

    docs: Ints1d
    starts: Ints1d
    ends: Ints1d
    homes: Ints1d

    @property
    def lengths(self) -> Ints1d:
        return self.ends - self.starts + N_SPECIAL


@dataclass(frozen=True)
class Batch:
    """Windows that are encoded at once, and how their hidden states become token vectors.

    packed: the windows, shortest first.
    windows: (windows,) their numbers.
    cls_rows: (windows,) the rows of `[CLS]` in the hidden states.
    tokens: (tokens here,) the tokens that have pieces here.
    rows, weights, offsets: token i is the sum of the hidden states `rows[offsets[i] : offsets[i + 1]]`, each times its
        weight: the mean over the token's pieces.
    """

    packed: Packed
    windows: Tensor
    cls_rows: Tensor
    tokens: Tensor
    rows: Tensor
    weights: Tensor
    offsets: Tensor


def docs_to_pieces(docs: Sequence[Doc], tokenizer: PieceTokenizer) -> Pieces:
    """Tokenise the Docs' raw text in one call and align pieces with tokens by their characters."""
    texts = [doc.text for doc in docs]
    encodings = tokenizer.encode(texts)
    n_pieces = np.array([len(encoding) for encoding in encodings], dtype=np.int64)
    total = int(n_pieces.sum())
    ids = np.fromiter(chain.from_iterable(e.ids for e in encodings), dtype=np.int64, count=total)
    flat_offsets = chain.from_iterable(chain.from_iterable(e.offsets for e in encodings))
    offsets = np.fromiter(flat_offsets, dtype=np.int64, count=2 * total).reshape(total, 2)
    # One line of characters for all Docs, with a gap between them, so that one search serves all.
    n_chars = np.array([len(text) + 1 for text in texts], dtype=np.int64)
    doc_chars = np.cumsum(n_chars) - n_chars
    offsets += np.repeat(doc_chars, n_pieces)[:, None]
    tokens = [doc.to_array([IDX, LENGTH]).astype(np.int64).reshape(len(doc), 2) for doc in docs]
    n_tokens = np.array([len(doc) for doc in docs], dtype=np.int64)
    spans = np.concatenate(tokens) if tokens else np.zeros((0, 2), dtype=np.int64)
    starts = spans[:, 0] + np.repeat(doc_chars, n_tokens)
    token_starts, token_ends = align(starts, starts + spans[:, 1], offsets[:, 0], offsets[:, 1])
    return Pieces(ids, np.cumsum(n_pieces), token_starts, token_ends)


def first_pieces(pieces: Pieces) -> Pieces:
    """The same, with each token's first piece alone for its range, as transformers classifies words."""
    return replace(pieces, token_ends=np.minimum(pieces.token_ends, pieces.token_starts + 1))


def align(starts: Ints1d, ends: Ints1d, piece_starts: Ints1d, piece_ends: Ints1d) -> tuple[Ints1d, Ints1d]:
    """The range of pieces that share a character with each token: (tokens,) and (tokens,).

    starts, ends: (tokens,) ascending characters.
    piece_starts, piece_ends: (pieces,) ascending characters; pieces may share characters and be empty.
    """
    first = np.searchsorted(piece_ends, starts, side="right")
    last = np.searchsorted(piece_starts, ends, side="left")
    return first, np.maximum(first, last)


def cut_windows(pieces: Pieces, *, window: int, overlap: int) -> Windows:
    """Cut each Doc into windows of at most `window` pieces, `[CLS]` and `[SEP]` included.

    A longer Doc gets windows of equal length that overlap by at least `overlap` pieces. Each token is taken from the
    window in which it stands most centrally: the seam runs through the middle of an overlap, moved to the start of a
    token where the overlap has one.
    """
    room = window - N_SPECIAL
    doc_starts = np.concatenate([[0], pieces.doc_ends[:-1]]).astype(np.int64)
    lengths = pieces.doc_ends - doc_starts
    n_windows = np.maximum(1, -((overlap - lengths) // (room - overlap)))
    docs = np.repeat(np.arange(len(lengths)), n_windows)
    index = np.arange(len(docs)) - np.repeat(np.cumsum(n_windows) - n_windows, n_windows)
    last = np.maximum(n_windows - 1, 1)[docs]
    starts = doc_starts[docs] + index * np.maximum(lengths - room, 0)[docs] // last
    ends = np.minimum(starts + room, pieces.doc_ends[docs])
    homes = starts.copy()
    later = np.flatnonzero(index > 0)
    if len(later):
        middle = (starts[later] + ends[later - 1]) // 2
        heads = pieces.token_starts[pieces.token_ends > pieces.token_starts]
        heads = np.concatenate([[-1], heads, [len(pieces.ids) + 1]])
        at = np.searchsorted(heads, middle, side="right")
        before, after = heads[at - 1], heads[at]
        homes[later] = np.where(before >= starts[later], before, np.where(after <= ends[later - 1], after, middle))
    return Windows(docs, starts, ends, homes)


def batch_windows(
    pieces: Pieces, windows: Windows, *, max_batch_pieces: int, cls_id: int, sep_id: int
) -> Iterator[Batch]:
    """Batches of windows of like length, each at most `max_batch_pieces` long, or a single window.

    What bounds memory is a batch, whatever the number and the lengths of the Docs.
    """
    counts = pieces.token_ends - pieces.token_starts
    tokens = np.repeat(np.arange(len(counts)), counts)
    taken = np.arange(len(tokens)) - np.repeat(np.cumsum(counts) - counts - pieces.token_starts, counts)
    home = np.searchsorted(windows.homes, taken, side="right") - 1
    weights = (1.0 / counts[tokens]).astype(np.float32)

    order = np.argsort(windows.lengths, kind="stable")
    lengths = windows.lengths[order]
    batch_of, row_of = np.empty_like(order), np.empty_like(order)
    bounds = split_by_budget(lengths, max_batch_pieces)
    for number, (start, end) in enumerate(bounds):
        batch_of[order[start:end]] = number
        row_of[order[start:end]] = np.cumsum(lengths[start:end]) - lengths[start:end]
    by_batch = np.argsort(batch_of[home], kind="stable")
    splits = np.searchsorted(batch_of[home][by_batch], np.arange(len(bounds) + 1))

    for number, (start, end) in enumerate(bounds):
        members, here = order[start:end], by_batch[splits[number] : splits[number + 1]]
        cls_rows = row_of[members]
        ids = np.empty(int(lengths[start:end].sum()), dtype=np.int64)
        inner = np.ones(len(ids), dtype=bool)
        ids[cls_rows], ids[cls_rows + lengths[start:end] - 1] = cls_id, sep_id
        inner[cls_rows], inner[cls_rows + lengths[start:end] - 1] = False, False
        sizes = lengths[start:end] - N_SPECIAL
        ids[inner] = pieces.ids[
            np.arange(len(ids) - N_SPECIAL * len(members))
            + np.repeat(windows.starts[members] - (np.cumsum(sizes) - sizes), sizes)
        ]
        new_token = np.flatnonzero(np.diff(tokens[here], prepend=-1))
        yield Batch(
            packed=Packed.from_ids(torch.from_numpy(ids), lengths[start:end].tolist()).filled(max_batch_pieces),
            windows=torch.from_numpy(members),
            cls_rows=torch.from_numpy(cls_rows),
            tokens=torch.from_numpy(tokens[here][new_token]),
            rows=torch.from_numpy(row_of[home[here]] + 1 + taken[here] - windows.starts[home[here]]),
            weights=torch.from_numpy(weights[here]),
            offsets=torch.from_numpy(new_token),
        )


def split_by_budget(lengths: Ints1d, budget: int) -> list[tuple[int, int]]:
    """Ranges of neighbours whose sum is within the budget, or a single one that is not."""
    ends = np.cumsum(lengths)
    bounds, start = [], 0
    while start < len(lengths):
        before = ends[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + budget, side="right")))
        bounds.append((start, end))
        start = end
    return bounds
