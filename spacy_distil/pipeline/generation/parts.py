"""The parts of a Doc that are read one by one, as pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
from spacy.tokens import Doc, Span
from tokenizers import Encoding

from spacy_distil.encoder.tokenizer import PieceTokenizer
from spacy_distil.pipeline.generation.sources import Sources


@dataclass(frozen=True)
class Part:
    """A stretch of a Doc's text.

    doc: number of its Doc.
    ids: its source pieces, without `[CLS]` and `[SEP]`.
    gap: the white space between the part before and this one.
    """

    doc: int
    ids: tuple[int, ...]
    gap: str


def cut_sentences(docs: Sequence[Doc], tokenizer: PieceTokenizer, window: int) -> list[Part]:
    """The sentences of Docs; of a Doc without boundaries all of it. What is longer than the window is cut between tokens.

    window: the most source pieces of a part, without `[CLS]` and `[SEP]`.
    """
    spans = [(i, span) for i, doc in enumerate(docs) for span in sentences(doc)]
    encodings = tokenizer.encode([span.text for _, span in spans])
    parts = []
    for (i, span), encoding in zip(spans, encodings, strict=True):
        gap = _gap(span)
        for start, end in cut(encoding, token_starts(span), window):
            parts.append(Part(i, tuple(encoding.ids[start:end]), gap))
            gap = " "
    return parts


def sentences(doc: Doc) -> Iterator[Span]:
    """Those that are not white space alone."""
    spans = doc.sents if doc.has_annotation("SENT_START") else [doc[:]]
    return (span for span in spans if span.text.strip())


def token_starts(span: Span) -> list[int]:
    """(tokens,) the first character of each token in the span's text"""
    return [token.idx - span.start_char for token in span]


def cut(encoding: Encoding, starts: Sequence[int], window: int) -> list[tuple[int, int]]:
    """Stretches of an encoding's pieces, each at most `window` long, with all pieces in them.

    starts: the first character of each token. A token is cut only where it is longer than a window itself.
    """
    n_pieces = len(encoding.ids)
    if n_pieces <= window:
        return [(0, n_pieces)] if n_pieces else []
    firsts = numpy.asarray([start for start, _ in encoding.offsets])
    tokens = numpy.searchsorted(starts, firsts, side="right")
    borders = [0, *(numpy.flatnonzero(numpy.diff(tokens)) + 1).tolist(), n_pieces]
    stretches, start = [], 0
    while start < n_pieces:
        end = max((border for border in borders if start < border <= start + window), default=start + window)
        stretches.append((start, end))
        start = end
    return stretches


def _gap(span: Span) -> str:
    """A part that starts a line in the source starts one in the target."""
    before = span.doc.text[: span.start_char]
    white = before[len(before.rstrip()) :] + span.text[: len(span.text) - len(span.text.lstrip())]
    return "\n" * white.count("\n") or " "


def to_sources(windows: Sequence[Sequence[Sequence[int]]], tokenizer: PieceTokenizer) -> Sources:
    """Texts of one or several windows each, with `[CLS]` and `[SEP]`."""
    first, last = tokenizer.cls_id, tokenizer.sep_id
    return Sources(tuple(tuple((first, *ids, last) for ids in text) for text in windows))
