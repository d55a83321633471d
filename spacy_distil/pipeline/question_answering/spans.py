"""The best spans of each question over all of its windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from spacy_distil.pipeline.question_answering.windows import Floats3d, Ints1d, Windows

Floats1d = NDArray[np.float32]
WINDOWS_AT_ONCE = 256
"""Windows whose spans are scored together: windows x pieces x lengths of spans are in memory."""


@dataclass(frozen=True)
class Spans:
    """Candidates for answers, a few of each window.

    questions: (spans,) the question of each, ascending; the spans of a question are in descending order of their score.
    starts, ends: (spans,) first and last piece, among the pieces of all passages.
    scores: (spans,) P(start) · P(end), from the softmax over the window's columns.
    logits: (spans,) the sum of the two logits.
    null_scores: (questions,) P(no answer): the least over the question's windows; 1 where it has none.
    null_logits: (questions,) the sum of the two logits of `[CLS]`, the least over the windows.
    """

    questions: Ints1d
    starts: Ints1d
    ends: Ints1d
    scores: Floats1d
    logits: Floats1d
    null_scores: Floats1d
    null_logits: Floats1d


def find_spans(windows: Windows, logits: NDArray[np.float32], *, top_k: int, max_answer_length: int) -> Spans:
    """The `top_k` best spans of each window. A span that several windows have counts with its best score, so that at least
    `top_k` different ones are left where there are so many.

    logits: (pieces, 2), of the windows' sequences.
    max_answer_length: in pieces.
    """
    columns = windows.gather(logits)
    log_p = log_softmax(columns)
    found = [
        _best_of_each(log_p[:, first : first + WINDOWS_AT_ONCE], first, top_k, max_answer_length)
        for first in range(0, len(windows.questions), WINDOWS_AT_ONCE)
    ]
    window, start, end = np.concatenate([np.zeros((3, 0), dtype=np.int64), *found], axis=1)
    is_span = windows.exist[window, end]  # a short window has fewer spans than were asked for
    window, start, end = window[is_span], start[is_span], end[is_span]
    scores = np.exp(log_p[0, window, start] + log_p[1, window, end])
    sums = columns[0, window, start] + columns[1, window, end]
    question, shift = windows.questions[window], windows.starts[window] - 1
    order = _unique(question, start + shift, end + shift, scores)
    null_scores = np.ones(len(windows.docs), dtype=np.float32)
    np.minimum.at(null_scores, windows.questions, np.exp(log_p[0, :, 0] + log_p[1, :, 0]))
    null_logits = np.full(len(windows.docs), np.inf, dtype=np.float32)
    np.minimum.at(null_logits, windows.questions, columns[0, :, 0] + columns[1, :, 0])
    return Spans(
        questions=question[order],
        starts=(start + shift)[order],
        ends=(end + shift)[order],
        scores=scores[order],
        logits=sums[order],
        null_scores=null_scores,
        null_logits=null_logits,
    )


def log_softmax(columns: Floats3d) -> Floats3d:
    shifted = columns - columns.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _best_of_each(log_p: Floats3d, first: int, top_k: int, max_answer_length: int) -> NDArray[np.int64]:
    """(3, spans): window, start and end column. The first column, `[CLS]`, is no span's.

    log_p: (2, windows, columns); first: number of the first window.
    """
    starts, ends = log_p[:, :, 1:]
    n_windows, n_columns = starts.shape
    longest = min(max_answer_length, n_columns)
    padded = np.pad(ends, ((0, 0), (0, longest - 1)), constant_values=-np.inf)
    band = starts[:, :, None] + sliding_window_view(padded, longest, axis=1)  # (windows, start, length - 1)
    flat = band.reshape(n_windows, -1)
    k = min(top_k, flat.shape[1])
    best = flat.argmax(axis=1)[:, None] if k == 1 else np.argpartition(-flat, k - 1, axis=1)[:, :k]
    start, length = np.divmod(best.ravel(), longest)
    window = first + np.repeat(np.arange(n_windows), k)
    reaches = start + length < n_columns
    return np.stack([window, start + 1, start + 1 + length])[:, reaches]


def _unique(questions: Ints1d, starts: Ints1d, ends: Ints1d, scores: Floats1d) -> Ints1d:
    """Numbers of the spans by question and descending score, each but once."""
    by_span = np.lexsort((-scores, ends, starts, questions))
    keys = np.stack([questions, starts, ends])[:, by_span]
    is_first = np.ones(len(by_span), dtype=bool)
    is_first[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    kept = by_span[is_first]
    return kept[np.lexsort((-scores[kept], questions[kept]))]
