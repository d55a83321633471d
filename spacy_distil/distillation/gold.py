"""Whether a corpus says anything of what a component learns. Missing annotation is no annotation of "nothing here"."""

from functools import singledispatch
from typing import Any

from spacy.pipeline import (
    DependencyParser,
    EditTreeLemmatizer,
    EntityLinker,
    EntityRecognizer,
    Morphologizer,
    SentenceRecognizer,
    SpanCategorizer,
    Tagger,
    TextCategorizer,
)
from spacy.pipeline.span_finder import SpanFinder
from spacy.tokens import Doc


@singledispatch
def has_gold(pipe: Any, reference: Doc) -> bool:
    """Whether the reference document annotates what the component predicts. A component of an unknown type is believed to
    find its annotation by itself."""
    return True


@has_gold.register
def _(pipe: TextCategorizer, reference: Doc) -> bool:
    # Several text categorizers share `cats`: only a component's own labels count.
    return any(label in reference.cats for label in pipe.labels)


@has_gold.register
def _(pipe: EntityRecognizer, reference: Doc) -> bool:
    key = pipe.incorrect_spans_key
    return _annotated(reference, "ENT_IOB") or bool(key and reference.spans.get(key))


@has_gold.register
def _(pipe: DependencyParser, reference: Doc) -> bool:
    return _annotated(reference, "DEP")


@has_gold.register
def _(pipe: Tagger, reference: Doc) -> bool:
    return _annotated(reference, "TAG")


@has_gold.register
def _(pipe: Morphologizer, reference: Doc) -> bool:
    return _annotated(reference, "MORPH") or _annotated(reference, "POS")


@has_gold.register
def _(pipe: SentenceRecognizer, reference: Doc) -> bool:
    return _annotated(reference, "SENT_START")


@has_gold.register
def _(pipe: EditTreeLemmatizer, reference: Doc) -> bool:
    return _annotated(reference, "LEMMA")


@has_gold.register(SpanCategorizer)
@has_gold.register(SpanFinder)
def _(pipe: SpanCategorizer | SpanFinder, reference: Doc) -> bool:
    return pipe.cfg["spans_key"] in reference.spans


@has_gold.register
def _(pipe: EntityLinker, reference: Doc) -> bool:
    return any(token.ent_kb_id for token in reference)


def _annotated(reference: Doc, attribute: str) -> bool:
    # spaCy calls an empty document annotated.
    return len(reference) > 0 and reference.has_annotation(attribute)
