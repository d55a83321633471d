"""What a component has said of a Doc, as a set of statements that can be compared with those of another pipeline.

A statement stands at a place, given in characters, so that pipelines with unlike tokenisers can be compared: a statement on a
token that the other has not is one that the other does not make. Tokens of white space are left out, as spaCy's scores do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from spacy.language import Language
from spacy.pipeline import (
    DependencyParser,
    EntityLinker,
    EntityRecognizer,
    Morphologizer,
    MultiLabel_TextCategorizer,
    SentenceRecognizer,
    SpanCategorizer,
    SpanFinder,
    Tagger,
    TextCategorizer,
)
from spacy.pipeline.edit_tree_lemmatizer import EditTreeLemmatizer
from spacy.tokens import Doc, Span, Token

from spacy_distil.pipeline.entity_tagger import EntityTagger
from spacy_distil.pipeline.summarization.component import Summarizer

Statement = tuple[int, int, str]  # first character, one after the last, what is said
View = Literal["tokens", "sentences", "parse", "entities", "spans", "categories"]


@dataclass(frozen=True)
class Reading:
    """How to read a component's statements.

    unit: what they are about.
    read: takes the component and the Doc.
    view: how a report shows them.
    """

    unit: str
    view: View
    read: Callable[[Any, Doc], Iterable[Statement]]


def _on_tokens(what: Callable[[Token], str]) -> Callable[[Any, Doc], Iterable[Statement]]:
    return lambda pipe, doc: (
        (token.idx, token.idx + len(token), said) for token in doc if not token.is_space and (said := what(token))
    )


def _morphology(token: Token) -> str:
    return " ".join(filter(None, (token.pos_, str(token.morph))))


def _arc(token: Token) -> str:
    """The label, and the character at which the head starts."""
    return f"{token.dep_} {token.head.idx}" if token.dep else ""


def _sentences(pipe: SentenceRecognizer, doc: Doc) -> Iterable[Statement]:
    return _on_spans(doc.sents if doc.has_annotation("SENT_START") else (), lambda sentence: "sentence")


def _summary(pipe: Summarizer, doc: Doc) -> Iterable[Statement]:
    return _on_spans(doc._.summary or (), lambda sentence: "summary")


def _entities(pipe: EntityRecognizer | EntityTagger, doc: Doc) -> Iterable[Statement]:
    return _on_spans(doc.ents, lambda entity: entity.label_)


def _links(pipe: EntityLinker, doc: Doc) -> Iterable[Statement]:
    return _on_spans((entity for entity in doc.ents if entity.kb_id), lambda entity: entity.kb_id_)


def _spans(pipe: SpanCategorizer | SpanFinder, doc: Doc) -> Iterable[Statement]:
    return _on_spans(doc.spans.get(pipe.cfg["spans_key"], ()), lambda span: span.label_)


def _on_spans(spans: Iterable[Span], what: Callable[[Span], str]) -> Iterable[Statement]:
    return ((span.start_char, span.end_char, what(span)) for span in spans)


def _best_category(pipe: TextCategorizer, doc: Doc) -> Iterable[Statement]:
    scores = {label: doc.cats[label] for label in pipe.labels if doc.cats.get(label, 0) > 0}
    return [(0, len(doc.text), max(scores, key=scores.__getitem__))] if scores else []


def _categories(pipe: MultiLabel_TextCategorizer, doc: Doc) -> Iterable[Statement]:
    least = pipe.cfg["threshold"]
    return [(0, len(doc.text), label) for label in pipe.labels if doc.cats.get(label, 0) >= max(least, 1e-9)]


READINGS: dict[type, Reading] = {
    Tagger: Reading("tokens", "tokens", _on_tokens(lambda token: token.tag_)),
    Morphologizer: Reading("tokens", "tokens", _on_tokens(_morphology)),
    EditTreeLemmatizer: Reading("tokens", "tokens", _on_tokens(lambda token: token.lemma_)),
    SentenceRecognizer: Reading("sentences", "sentences", _sentences),
    DependencyParser: Reading("tokens", "parse", _on_tokens(_arc)),
    EntityRecognizer: Reading("entities", "entities", _entities),
    EntityTagger: Reading("entities", "entities", _entities),
    EntityLinker: Reading("entities", "entities", _links),
    SpanCategorizer: Reading("spans", "spans", _spans),
    SpanFinder: Reading("spans", "spans", _spans),
    TextCategorizer: Reading("texts", "categories", _best_category),
    Summarizer: Reading("sentences", "sentences", _summary),
    MultiLabel_TextCategorizer: Reading("categories", "categories", _categories),
}


def find_reading(pipe: Any) -> Reading | None:
    """That of the component's class or of the nearest one that it is derived from; None for a component of another kind."""
    return next((READINGS[cls] for cls in type(pipe).__mro__ if cls in READINGS), None)


def find_common(teacher: Language, student: Language) -> dict[str, Reading]:
    """The components that both pipelines have, by name, and that are read alike."""
    found: dict[str, Reading] = {}
    for name in teacher.pipe_names:
        reading = find_reading(teacher.get_pipe(name))
        if reading and name in student.pipe_names and find_reading(student.get_pipe(name)) is reading:
            found[name] = reading
    return found
