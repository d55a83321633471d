"""Where a Doc's sentences are, and which of them its references call salient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
from spacy.tokens import Doc
from spacy.training import Example

from spacy_distil.errors import ComponentError, CorpusError

Spans = Any  # numpy, (sentences, 2): the first token of each sentence, and the one behind its last


def find_sentences(doc: Doc, component: str) -> Spans:
    """The sentences of a Doc, whatever found them, but for those of nothing but white space.

    component: name of the one that needs them, for the error.
    RAISES: ComponentError where the Doc has no sentence boundaries.
    """
    if not len(doc):
        return _spans([])
    if not has_sentences(doc):
        raise ComponentError(
            f"The component '{component}' scores sentences, and this Doc has no sentence boundaries: {doc[:6].text!r} … Add a "
            f'component before it that finds them, such as nlp.add_pipe("sentencizer", before="{component}"), in training '
            "among annotating_components; or let the corpus give them, by the reader spacy-distil.SummaryCorpus.v1."
        )
    return _spans([(sentence.start, sentence.end) for sentence in doc.sents if not sentence.text.isspace()])


def find_sentences_to_learn(example: Example, component: str) -> Spans:
    """The sentences of the predicted Doc; where it has no boundaries, those of the reference, on the predicted tokens."""
    doc, reference = example.predicted, example.reference
    if has_sentences(doc) or not has_sentences(reference):
        return find_sentences(doc, component)
    aligned = (example.alignment.y2x[sentence.start : sentence.end] for sentence in reference.sents)
    starts = sorted({0, *(int(tokens[0]) for tokens in aligned if len(tokens))})
    spans = zip(starts, [*starts[1:], len(doc)], strict=True)
    return _spans([(start, end) for start, end in spans if not doc[start:end].text.isspace()])


def find_salient(example: Example, sentences: Spans) -> Any:
    """1 for each sentence of the predicted Doc more than half of whose tokens stand in one that `reference._.salient` names,
    else 0: (sentences,), numpy's.

    RAISES: CorpusError for a number that no sentence of the reference has.
    """
    salient, reference = example.reference._.salient, example.reference
    text = f"`salient` of the text {reference[:6].text!r} … names the sentences {list(salient)}"
    if not has_sentences(reference):
        raise CorpusError(f"{text}, and its Doc has no sentence boundaries. Set them where the corpus is made.")
    spans = list(reference.sents)
    if not all(0 <= number < len(spans) for number in salient):
        raise CorpusError(f"{text}, and it has {len(spans)}, counted from 0. Mend the corpus.")
    is_salient = numpy.zeros(len(example.predicted), dtype="float32")
    for number in salient:
        is_salient[example.alignment.y2x[spans[number].start : spans[number].end]] = 1.0
    shares = [is_salient[start:end].mean() for start, end in sentences]
    return numpy.array(shares, dtype="float32") > 0.5


def has_sentences(doc: Doc) -> bool:
    return "sents" in doc.user_hooks or doc.has_annotation("SENT_START")


def _spans(pairs: Sequence[tuple[int, int]]) -> Spans:
    return numpy.array(pairs, dtype="int32").reshape(-1, 2)
