"""The warning for texts in a script that the vocabulary lacks: what comes out of them looks like any other result."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spacy_distil.encoder.tokenizer import PieceTokenizer

UNKNOWN = 0.1  # the share of unknown pieces from which on they are worth a warning
Kind = Literal["text", "question", "source", "target"]
WHAT = {
    "text": ("reads texts", "vocabulary"),
    "question": ("is asked questions", "vocabulary"),
    "source": ("reads texts", "source vocabulary"),
    "target": ("has to learn to write texts", "target vocabulary"),
}


class UnknownWatch:
    """Warns once of each kind of text of which too much is unknown."""

    def __init__(self) -> None:
        self._told: set[Kind] = set()

    def look(
        self,
        who: str,
        ids: NDArray[np.int64],
        texts: Callable[[], Sequence[str]],
        tokenizer: PieceTokenizer,
        kind: Kind = "text",
    ) -> None:
        """Warn where more than `UNKNOWN` of the pieces are unknown and stand for something with letters.

        who: what the warning begins with.
        ids: (pieces,) of all texts.
        texts: gives them, where there may be something to tell.
        """
        if kind in self._told or share_unknown(tokenizer, ids) <= UNKNOWN:
            return
        words, n_pieces = find_unknown_words(tokenizer, texts())
        share = len(words) / max(n_pieces, 1)
        if share <= UNKNOWN:
            return
        self._told.add(kind)
        such = ", ".join(repr(word[:20]) for word in list(dict.fromkeys(words))[:3])
        does, vocabulary = WHAT[kind]
        warnings.warn(
            f"{who} {does} of which {share:.0%} of the pieces are unknown to its {vocabulary}, such as {such}: it can make "
            "nothing of them. Are they in the language and the script that it was made for? Else start from a checkpoint "
            "that was made for them, or from a multilingual one.",
            stacklevel=4,
        )


def share_unknown(tokenizer: PieceTokenizer, ids: NDArray[np.int64]) -> float:
    """The share of the pieces for which the vocabulary has none. ids: (pieces,)"""
    unknown = tokenizer.unk_id
    return 0.0 if unknown is None or not len(ids) else np.count_nonzero(ids == unknown) / len(ids)


def find_unknown_words(tokenizer: PieceTokenizer, texts: Sequence[str]) -> tuple[list[str], int]:
    """What the unknown pieces stand for, as far as it has letters: an emoji is no script. And the number of all pieces."""
    encodings = tokenizer.encode(texts)
    words = [
        text[start:end]
        for text, encoding in zip(texts, encodings, strict=True)
        for piece, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
        if piece == tokenizer.unk_id
    ]
    return [word for word in words if any(map(str.isalpha, word))], sum(map(len, encodings))
