"""Questions and windows of their passages as sequences: `[CLS] question [SEP] passage [SEP]`.

All of it works on arrays over a batch. Pieces of passages, questions and windows are numbered through from the first Doc to the
last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding

from spacy_distil.encoder.sequences import Sequences
from spacy_distil.encoder.tokenizer import PieceTokenizer
from spacy_distil.errors import ComponentError

Ints1d = NDArray[np.int64]
Ints2d = NDArray[np.int64]
Floats3d = NDArray[np.float32]
N_SPECIAL = 3  # [CLS] and two [SEP]
IMPOSSIBLE = -1e4  # logit of what is no piece of the window


@dataclass(frozen=True)
class Windows:
    """The windows of a batch of questions. The pieces of a window at which an answer may start or end are its columns: `[CLS]`,
    which stands for no answer, then those of the passage.

    sequences: one for each window.
    questions: (windows,) the question of each, ascending. One about an empty passage has no window.
    starts, ends: (windows,) the range of pieces among all passages'.
    first_rows: (windows,) the row of `[CLS]` among the sequences' pieces.
    heads: (windows,) what stands before the passage: `[CLS]`, the question and `[SEP]`.
    chars: (pieces of the passages, 2) where each piece starts and ends in its Doc's text.
    docs: (questions,) the Doc of each question.
    passages: (docs, 2) its range of pieces.
    """

    sequences: Sequences
    questions: Ints1d
    starts: Ints1d
    ends: Ints1d
    first_rows: Ints1d
    heads: Ints1d
    chars: Ints2d
    docs: Ints1d
    passages: Ints2d

    @property
    def n_columns(self) -> int:
        """Of the longest window."""
        return 1 + int((self.ends - self.starts).max(initial=0))

    @property
    def rows(self) -> Ints2d:
        """(windows, columns) the row of each column among the sequences' pieces; of columns that a window lacks, `[CLS]`."""
        columns = np.arange(self.n_columns)
        rows = self.first_rows[:, None] + columns + np.where(columns > 0, self.heads[:, None] - 1, 0)
        return np.where(self.exist, rows, self.first_rows[:, None])

    @property
    def exist(self) -> NDArray[np.bool_]:
        """(windows, columns) whether a window has the column."""
        return np.arange(self.n_columns) <= (self.ends - self.starts)[:, None]

    def split_ids(self) -> tuple[Ints1d, Ints1d]:
        """The sequences' pieces of passages and of questions, as often as windows have them, each with its `[SEP]`."""
        ids, types = self.sequences.ids.numpy(), self.sequences.types
        assert types is not None
        is_passage = types.numpy() == 1
        is_question = ~is_passage
        is_question[self.first_rows] = False  # `[CLS]`
        return ids[is_passage], ids[is_question]

    def gather(self, logits: NDArray[np.float32]) -> Floats3d:
        """(pieces, 2) -> (2, windows, columns), start and end; `IMPOSSIBLE` where a window lacks the column."""
        return np.where(self.exist, logits.T[:, self.rows], np.float32(IMPOSSIBLE))

    def scatter(self, gradient: Floats3d) -> NDArray[np.float32]:
        """(2, windows, columns) -> (pieces, 2), the gradient of what `gather` takes."""
        spread = np.zeros((len(self.sequences.ids), 2), dtype=np.float32)
        spread[self.rows[self.exist]] = gradient[:, self.exist].T
        return spread


def make_windows(
    texts: Sequence[str],
    questions: Sequence[Sequence[str]],
    tokenizer: PieceTokenizer,
    *,
    max_length: int,
    stride: int,
    names: Sequence[Sequence[str]] | None = None,
) -> Windows:
    """Tokenise all passages and questions in one call, each passage once, and cut passages into windows.

    Windows start `stride` pieces before their neighbour ends, or less where a question leaves little room, and the last one is
    shorter, as transformers cuts them.

    questions: of each text.
    max_length: the most pieces of a window, `[CLS]`, question and both `[SEP]` included.
    names: what errors call the questions; None for the questions themselves.
    RAISES: ComponentError for a question that is empty or takes more than half of a window.
    """
    asked = list(chain.from_iterable(questions))
    called = asked if names is None else list(chain.from_iterable(names))
    encodings = tokenizer.encode([*texts, *asked])
    passages, queries = encodings[: len(texts)], [encoding.ids for encoding in encodings[len(texts) :]]
    for ids, name in zip(queries, called, strict=True):
        _check_question(len(ids), name, max_length)
    ids, chars, ends = _flatten(passages)
    doc_of = np.repeat(np.arange(len(texts)), [len(row) for row in questions])
    ranges = np.stack([np.concatenate([[0], ends[:-1]])[: len(ends)], ends], axis=1).astype(np.int64)

    heads = np.array([len(query) + 2 for query in queries], dtype=np.int64)
    room = max_length - heads - 1
    step = room - np.minimum(stride, room // 2)
    lengths = (ranges[:, 1] - ranges[:, 0])[doc_of]
    n_windows = np.where(lengths > 0, 1 + np.maximum(0, -((room - lengths) // step)), 0)
    question_of = np.repeat(np.arange(len(queries)), n_windows)
    index = np.arange(len(question_of)) - np.repeat(np.cumsum(n_windows) - n_windows, n_windows)
    starts = ranges[doc_of[question_of], 0] + index * step[question_of]
    window_ends = np.minimum(starts + room[question_of], ranges[doc_of[question_of], 1])

    sequences = _join(ids, queries, question_of, starts, window_ends, tokenizer)
    sizes = np.asarray(sequences.lengths, dtype=np.int64)
    return Windows(
        sequences=sequences,
        questions=question_of,
        starts=starts,
        ends=window_ends,
        first_rows=np.cumsum(sizes) - sizes,
        heads=heads[question_of],
        chars=chars,
        docs=doc_of,
        passages=ranges,
    )


def _check_question(n_pieces: int, name: str, max_length: int) -> None:
    if not n_pieces:
        raise ComponentError(f"The question {name!r} is empty: it has nothing that the tokenizer knows as a piece.")
    if n_pieces + N_SPECIAL > max_length // 2:
        raise ComponentError(
            f"The question {name[:80]!r} has {n_pieces} word pieces, and at most {max_length // 2 - N_SPECIAL} leave room for "
            f"the passage in a window of max_length = {max_length}. Shorten it, or set max_length higher, up to the "
            "encoder's limit."
        )


def _flatten(encodings: Sequence[Encoding]) -> tuple[Ints1d, Ints2d, Ints1d]:
    """Piece ids, their characters, and the piece after each text's last."""
    lengths = np.array([len(encoding) for encoding in encodings], dtype=np.int64)
    total = int(lengths.sum())
    ids = np.fromiter(chain.from_iterable(e.ids for e in encodings), dtype=np.int64, count=total)
    offsets = chain.from_iterable(chain.from_iterable(e.offsets for e in encodings))
    return ids, np.fromiter(offsets, dtype=np.int64, count=2 * total).reshape(total, 2), np.cumsum(lengths)


def _join(
    ids: Ints1d,
    queries: Sequence[Sequence[int]],
    question_of: Ints1d,
    starts: Ints1d,
    ends: Ints1d,
    tokenizer: PieceTokenizer,
) -> Sequences:
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    heads = [np.array([cls, *query, sep], dtype=np.int64) for query in queries]
    tail = np.array([sep], dtype=np.int64)
    parts: list[Ints1d] = []
    for question, start, end in zip(question_of.tolist(), starts.tolist(), ends.tolist(), strict=True):
        parts += heads[question], ids[start:end], tail
    sizes = np.array([len(part) for part in parts], dtype=np.int64).reshape(-1, 3)
    types = np.repeat(np.tile([0, 1, 1], len(sizes)), sizes.ravel())
    flat = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
    return Sequences(torch.from_numpy(flat), tuple(sizes.sum(axis=1).tolist()), torch.from_numpy(types))
