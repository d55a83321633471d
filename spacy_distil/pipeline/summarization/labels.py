"""What a summariser learns: a number from 0 to 1 for each sentence, from a corpus that says which are salient, or from
reference summaries."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy
from spacy.tokens import Doc
from spacy.training import Example

from spacy_distil.pipeline.summarization.rouge import find_references, score
from spacy_distil.pipeline.summarization.sentences import Spans, find_salient

Labels = Literal["gains", "greedy", "salient"]
TYPES = ("rouge1", "rouge2")
REMEMBERED = 2**16
"""Texts whose labels are kept: ROUGE is slow, and each epoch asks for the same ones."""


def has_labels(reference: Doc) -> bool:
    return reference._.salient is not None or bool(find_references(reference))


def make_labels(example: Example, sentences: Spans, kind: Labels, max_sentences: int | None) -> Any:
    """What the reference says of each sentence of the predicted Doc: (sentences,), numpy's float32.

    kind: what to learn from where the corpus has more than one. `gains`: from its summaries, how near each sentence alone comes
        to one, in proportion to the nearest. `greedy`: from its summaries, 1 for the sentences that come nearest together.
        `salient`: 1 for those that the corpus names. Where it has not what is asked for, it is the other: for `salient`,
        `greedy`.
    max_sentences: the most that are chosen together.
    """
    reference = example.reference
    references = tuple(find_references(reference))
    if not references or (kind == "salient" and reference._.salient is not None):
        return find_salient(example, sentences).astype("float32")
    texts = tuple(example.predicted[start:end].text for start, end in sentences)
    if kind == "gains":
        gains = numpy.array(measure_sentences(texts, references, reference.lang_), dtype="float32")
        return gains / max(gains.max(initial=0.0), numpy.finfo("float32").tiny)
    labels = numpy.zeros(len(texts), dtype="float32")
    labels[list(find_extract(texts, references, reference.lang_, max_sentences or len(texts)))] = 1.0
    return labels


@lru_cache(REMEMBERED)
def find_extract(
    sentences: tuple[str, ...], references: tuple[str, ...], lang: str, max_sentences: int
) -> tuple[int, ...]:
    """The sentences that together come nearest to a reference: one after the other, each time the one that adds most to ROUGE-1
    and ROUGE-2, as long as one adds anything (Nallapati, Zhai and Zhou 2017, "SummaRuNNer", Extractive Training).

    RETURNS: their numbers, in order; none where no sentence has a word in common with a reference.
    """
    chosen: list[int] = []
    best = 0.0
    while len(chosen) < max_sentences:
        rest = [i for i in range(len(sentences)) if i not in chosen]
        reached = [measure([sentences[j] for j in sorted([*chosen, i])], references, lang) for i in rest]
        if max(reached, default=0.0) <= best:
            break
        best = max(reached)
        chosen.append(rest[reached.index(best)])
    return tuple(sorted(chosen))


@lru_cache(REMEMBERED)
def measure_sentences(sentences: tuple[str, ...], references: tuple[str, ...], lang: str) -> tuple[float, ...]:
    """How near each sentence alone comes to a reference, from 0 to 1."""
    return tuple(measure([sentence], references, lang) for sentence in sentences)


def measure(sentences: Sequence[str], references: Sequence[str], lang: str) -> float:
    """The mean of ROUGE-1 and ROUGE-2 F against the nearest reference, from 0 to 1."""
    text = " ".join(sentences)
    return max(sum(score(text, reference, lang, TYPES).values()) / len(TYPES) for reference in references)
