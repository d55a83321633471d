"""Windows and batches: which pieces are encoded together, which window a token is taken from, and how much at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from spacy_distil.encoder.pieces import N_SPECIAL, Batch, Pieces, Windows, batch_windows, cut_windows

CLS, SEP = 1001, 1002


def make_pieces(docs: list[list[int]]) -> Pieces:
    """Docs of tokens that have so many pieces each, none shared."""
    counts = np.array([n for doc in docs for n in doc], dtype=np.int64)
    ends = np.cumsum(counts)
    doc_ends = np.cumsum([sum(doc) for doc in docs], dtype=np.int64)
    return Pieces(np.arange(counts.sum()), doc_ends, ends - counts, ends)


@st.composite
def shapes(draw: Callable) -> tuple[list[list[int]], int, int]:
    """Docs, a window and an overlap. Tokens may be without a piece, and longer than a window."""
    window = draw(st.integers(N_SPECIAL + 1, 16))
    overlap = draw(st.integers(0, window - N_SPECIAL - 1))
    n_pieces = st.integers(1, 3) | st.integers(0, 30)
    return draw(st.lists(st.lists(n_pieces, max_size=25), max_size=4)), window, overlap


def homes_of(pieces: Pieces, windows: Windows) -> list[int]:
    """The window that each piece is taken from, as the docstring of `Windows` says it."""
    bounds = [*windows.homes.tolist(), len(pieces.ids)]
    home = [-1] * len(pieces.ids)
    for window in range(len(windows.homes)):
        for piece in range(bounds[window], bounds[window + 1]):
            home[piece] = window
    return home


long_doc = [1, 2, 1, 3, 1, 1, 5, 1, 1, 2, 2, 1, 1, 1, 4, 1, 1, 1, 1, 2]


@given(shapes())
@example(([[], [3], [], long_doc, []], 10, 4))
@example(([[30], long_doc, [0, 0]], 7, 4))
@example(([], 10, 4))
def test_windows_cover_each_doc_and_overlap_as_asked(shape):
    docs, window, overlap = shape
    pieces = make_pieces(docs)
    windows = cut_windows(pieces, window=window, overlap=overlap)
    starts, ends, of_doc = windows.starts.tolist(), windows.ends.tolist(), windows.docs.tolist()
    assert (windows.lengths <= window).all()
    assert sorted(set(of_doc)) == list(range(len(docs))), "every Doc has a window, an empty one too"
    for doc, doc_end in enumerate(pieces.doc_ends.tolist()):
        own = [w for w in range(len(of_doc)) if of_doc[w] == doc]
        assert starts[own[0]] == doc_end - sum(docs[doc])
        assert ends[own[-1]] == doc_end
        assert all(ends[a] - starts[b] >= overlap for a, b in pairwise(own))
        assert len({ends[w] - starts[w] for w in own}) == 1, "windows of one Doc are of one length"
        if sum(docs[doc]) <= window - N_SPECIAL:
            assert len(own) == 1
        else:
            step = window - N_SPECIAL - overlap
            assert len(own) == -(-(sum(docs[doc]) - overlap) // step), "no more windows than the overlap needs"


@given(shapes())
@example(([[], [3], [], long_doc, []], 10, 4))
@example(([long_doc, long_doc], 12, 9))
def test_each_piece_is_taken_from_one_window_that_contains_it(shape):
    docs, window, overlap = shape
    pieces = make_pieces(docs)
    windows = cut_windows(pieces, window=window, overlap=overlap)
    assert (np.diff(windows.homes) >= 0).all()
    for piece, home in enumerate(homes_of(pieces, windows)):
        assert windows.starts[home] <= piece < windows.ends[home]


@given(shapes())
@example(([[1, 1, 1, 1, 1, 1, 1, 3, 1, 1, 1, 1, 1, 1, 1, 1]], 10, 3))
@example(([[1, 1, 1, 1, 4, 1, 1, 1, 1, 1]], 10, 4))
def test_seams_run_at_the_start_of_a_token_where_an_overlap_has_one(shape):
    docs, window, overlap = shape
    pieces = make_pieces(docs)
    windows = cut_windows(pieces, window=window, overlap=overlap)
    heads = {
        start
        for start, end in zip(pieces.token_starts.tolist(), pieces.token_ends.tolist(), strict=True)
        if start < end
    }
    for w in range(1, len(windows.docs)):
        if windows.docs[w] == windows.docs[w - 1]:
            shared = range(windows.starts[w], windows.ends[w - 1] + 1)
            if heads & set(shared):
                assert int(windows.homes[w]) in heads


@given(shapes())
@example(([[1, 1, 1, 1, 1, 1, 1, 3, 1, 1, 1, 1, 1, 1, 1, 1]], 10, 3))
def test_a_token_no_longer_than_the_overlap_is_taken_whole(shape):
    docs, window, overlap = shape
    pieces = make_pieces(docs)
    homes = homes_of(pieces, cut_windows(pieces, window=window, overlap=overlap))
    for start, end in zip(pieces.token_starts, pieces.token_ends, strict=True):
        if end - start <= max(overlap, 1):
            assert len(set(homes[start:end])) <= 1


@given(shapes())
@example(([[1] * 40], 10, 4))
@example(([[1] * 40], 16, 12))
def test_a_token_of_one_piece_among_such_is_taken_from_its_most_central_window(shape):
    docs, window, overlap = shape
    pieces = make_pieces([[1] * len(doc) for doc in docs])
    windows = cut_windows(pieces, window=window, overlap=overlap)
    for piece, home in enumerate(homes_of(pieces, windows)):
        distances = np.minimum(piece - windows.starts, windows.ends - 1 - piece)  # from either edge
        assert distances[home] == distances.max()


@given(shapes())
@example(([long_doc], 10, 4))
def test_a_seam_is_no_farther_from_the_middle_than_a_token_is_long(shape):
    docs, window, overlap = shape
    pieces = make_pieces(docs)
    windows = cut_windows(pieces, window=window, overlap=overlap)
    longest = max((n for doc in docs for n in doc), default=0)
    for w in range(1, len(windows.docs)):
        if windows.docs[w] == windows.docs[w - 1]:
            middle = (windows.starts[w] + windows.ends[w - 1]) // 2
            assert abs(windows.homes[w] - middle) <= longest


# Batches


def batches_of(shape: tuple[list[list[int]], int, int], budget: int) -> tuple[Pieces, Windows, list[Batch]]:
    docs, window, overlap = shape
    pieces = make_pieces(docs)
    windows = cut_windows(pieces, window=window, overlap=overlap)
    batches = batch_windows(pieces, windows, max_batch_pieces=budget, cls_id=CLS, sep_id=SEP)
    return pieces, windows, list(batches)


@given(shapes(), st.integers(1, 60))
@example(([[], [3], [], long_doc, []], 10, 4), 1)
@example(([[], [3], [], long_doc, []], 10, 4), 20)
@example(([], 10, 4), 20)
def test_every_window_is_encoded_once_within_the_budget(shape, budget):
    _, windows, batches = batches_of(shape, budget)
    assert sorted(w for batch in batches for w in batch.windows.tolist()) == list(range(len(windows.docs)))
    lengths = [length for batch in batches for length in batch.packed.lengths]
    assert lengths == sorted(lengths), "windows of like length side by side"
    for batch in batches:
        assert sum(batch.packed.lengths) <= budget or len(batch.packed.lengths) == 1
        # filler, if any, is within the budget too
        assert sum(batch.packed.lengths) <= len(batch.packed.ids) <= max(budget, sum(batch.packed.lengths))
    for batch, following in pairwise(batches):
        assert sum(batch.packed.lengths) + following.packed.lengths[0] > budget, "no room was left"


@given(shapes(), st.integers(1, 60))
@example(([[], [3], [], long_doc, []], 10, 4), 20)
def test_each_window_is_its_pieces_between_cls_and_sep(shape, budget):
    pieces, windows, batches = batches_of(shape, budget)
    for batch in batches:
        ends = np.cumsum(batch.packed.lengths)
        for window, start, end in zip(batch.windows.tolist(), ends - batch.packed.lengths, ends, strict=True):
            sequence, position = batch.packed.ids[start:end], batch.packed.positions[start:end]
            inner = pieces.ids[windows.starts[window] : windows.ends[window]].tolist()
            assert sequence.tolist() == [CLS, *inner, SEP]
            assert position.tolist() == list(range(len(sequence)))
        assert (batch.packed.ids[batch.cls_rows] == CLS).all()
        assert len(batch.cls_rows) == len(batch.windows)


@given(shapes(), st.integers(1, 60), st.booleans())
@example(([[], [3], [], long_doc, []], 10, 4), 20, False)
@example(([[40, 1, 0, 35], long_doc], 10, 4), 15, True)
def test_token_vectors_are_the_mean_of_their_pieces_each_from_its_home(shape, budget, overlapping):
    """A hidden state that says which piece it is of, and in which window."""
    docs, window, overlap = shape
    pieces = make_pieces(docs)
    if overlapping:  # every second token also has the first piece of the token that follows it, as if they shared it
        ends = pieces.token_ends.copy()
        for token in range(0, len(ends) - 1, 2):
            if ends[token] not in pieces.doc_ends and pieces.token_ends[token + 1] > pieces.token_starts[token + 1]:
                ends[token] += 1
        pieces = Pieces(pieces.ids, pieces.doc_ends, pieces.token_starts, ends)
    windows = cut_windows(pieces, window=window, overlap=overlap)
    homes = homes_of(pieces, windows)

    def state(piece: int, of_window: int) -> list[float]:
        return [float(piece), float(of_window), float(piece * of_window % 7)]

    tokens = torch.zeros(len(pieces.token_starts), 3)
    seen: Counter[int] = Counter()
    for batch in batch_windows(pieces, windows, max_batch_pieces=budget, cls_id=CLS, sep_id=SEP):
        rows: list[list[float]] = []
        for w in batch.windows.tolist():
            inner = [state(piece, w) for piece in range(windows.starts[w], windows.ends[w])]
            rows += [[float("nan")] * 3, *inner, [float("nan")] * 3]
        hidden, bounds = torch.tensor(rows), [*batch.offsets.tolist(), len(batch.rows)]
        for token, (start, end) in zip(batch.tokens.tolist(), pairwise(bounds), strict=True):
            seen[token] += end - start
            tokens[token] += (hidden[batch.rows[start:end]] * batch.weights[start:end, None]).sum(0)
        assert len(set(batch.tokens.tolist())) == len(batch.tokens)
    for token, (start, end) in enumerate(zip(pieces.token_starts, pieces.token_ends, strict=True)):
        assert seen[token] == end - start, "each of its pieces once"
        expected = [state(piece, homes[piece]) for piece in range(start, end)] or [[0.0] * 3]
        torch.testing.assert_close(tokens[token], torch.tensor(expected).mean(0))
