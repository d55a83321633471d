"""The parts of a Doc that are read one by one, as pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
from spacy.tokens import Doc, Span
from tokenizers import Encoding

from spacy_distil.encoder.tokenizer import PieceTokenizer

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """A stretch of a Doc for which one text is written.

    doc: number of its Doc.
    windows: its source pieces, without `[CLS]` and `[SEP]`, in one or several windows that are encoded apart.
    gap: the white space before its text, where it is not the first of the Doc.
    n_parts: into how many parts its sentence was cut.
    """

    doc: int
    windows: tuple[Ids, ...]
    gap: str = " "
    n_parts: int = 1


def cut_sentences(docs: Sequence[Doc], tokenizer: PieceTokenizer, window: int) -> list[Part]:
    """A part for each sentence; for a Doc without boundaries one for all of it. What is longer than the window is cut into
    several between tokens.

    window: the most source pieces of a part.
    """
    spans = [(i, span) for i, doc in enumerate(docs) for span in find_sentences(doc)]
    parts = []
    for (i, span), windows in zip(spans, cut_spans([span for _, span in spans], tokenizer, window), strict=True):
        for number, ids in enumerate(windows):
            parts.append(Part(i, (ids,), " " if number else find_gap(span), len(windows)))
    return parts


def cut_whole(docs: Sequence[Doc], tokenizer: PieceTokenizer, window: int) -> list[Part]:
    """A part for each Doc that is more than white space, in as many windows as it takes."""
    spans = [(i, doc[:]) for i, doc in enumerate(docs) if doc.text.strip()]
    cuts = cut_spans([span for _, span in spans], tokenizer, window)
    return [Part(i, windows) for (i, _), windows in zip(spans, cuts, strict=True) if windows]


def find_sentences(doc: Doc) -> Iterator[Span]:
    """Those that are not white space alone."""
    spans = doc.sents if doc.has_annotation("SENT_START") else [doc[:]]
    return (span for span in spans if span.text.strip())


def find_gap(span: Span) -> str:
    """What starts a line in the source starts one in the target."""
    before = span.doc.text[: span.start_char]
    white = before[len(before.rstrip()) :] + span.text[: len(span.text) - len(span.text.lstrip())]
    return "\n" * white.count("\n") or " "


def cut_spans(spans: Sequence[Span], tokenizer: PieceTokenizer, window: int) -> list[tuple[Ids, ...]]:
    """The pieces of each span in windows. A span of control characters alone has none."""
    cuts = []
    for span, encoding in zip(spans, tokenizer.encode([span.text for span in spans]), strict=True):
        starts = [token.idx - span.start_char for token in span]
        stretches = cut(encoding, starts, window)
        cuts.append(tuple(tuple(encoding.ids[start:end]) for start, end in stretches))
    return cuts


def cut(encoding: Encoding, token_starts: Sequence[int], window: int) -> list[tuple[int, int]]:
    """Stretches of an encoding's pieces, each at most `window` long, with all pieces in them.

    token_starts: the first character of each token. A token is cut only where it is longer than a window itself.
    """
    n_pieces = len(encoding.ids)
    if n_pieces <= window:
        return [(0, n_pieces)] if n_pieces else []
    firsts = numpy.asarray([start for start, _ in encoding.offsets])
    tokens = numpy.searchsorted(token_starts, firsts, side="right")
    borders = numpy.append(numpy.flatnonzero(numpy.diff(tokens)) + 1, n_pieces)
    stretches, start = [], 0
    while start < n_pieces:
        within = borders[(borders > start) & (borders <= start + window)]
        end = int(within[-1]) if len(within) else start + window
        stretches.append((start, end))
        start = end
    return stretches
