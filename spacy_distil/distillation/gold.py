"""What a corpus, or another pipeline, says of what a component learns. Missing annotation is no annotation of "nothing
here"."""

from functools import singledispatch
from typing import Any

from spacy.attrs import DEP, HEAD, TAG
from spacy.pipeline import (
    DependencyParser,
    EditTreeLemmatizer,
    EntityLinker,
    EntityRecognizer,
    Morphologizer,
    MultiLabel_TextCategorizer,
    SentenceRecognizer,
    SpanCategorizer,
    Tagger,
    TextCategorizer,
)
from spacy.pipeline.span_finder import SpanFinder
from spacy.tokens import Doc, Span

from spacy_distil.distillation.errors import DistillationError
from spacy_distil.pipeline.entity_tagger import EntityTagger
from spacy_distil.pipeline.generation.component import EXTENSIONS, REFERENCES, Seq2Seq
from spacy_distil.pipeline.question_answering.component import QuestionAnswering
from spacy_distil.pipeline.question_answering.gold import has_answers
from spacy_distil.pipeline.references import as_list
from spacy_distil.pipeline.summarization.component import Summarizer
from spacy_distil.pipeline.summarization.labels import has_labels


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
def _(pipe: EntityTagger, reference: Doc) -> bool:
    return _annotated(reference, "ENT_IOB")


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


@has_gold.register
def _(pipe: Summarizer, reference: Doc) -> bool:
    return has_labels(reference)


@has_gold.register
def _(pipe: Seq2Seq, reference: Doc) -> bool:
    return bool(pipe.find_references(reference))


@has_gold.register
def _(pipe: QuestionAnswering, reference: Doc) -> bool:
    return has_answers(reference)


@singledispatch
def take_over(pipe: Any, source: Doc, target: Doc) -> None:
    """Write into a document what another one, of the same tokens, annotates of that which the component predicts."""
    raise DistillationError(
        f"Component '{pipe.name}' is a {type(pipe).__name__}, whose annotation can't be taken over from a teacher. Annotate "
        "the corpus for evaluation, or register the component's class with spacy_distil.distillation.gold.take_over."
    )


@take_over.register
def _(pipe: TextCategorizer, source: Doc, target: Doc) -> None:
    best = max(pipe.labels, key=source.cats.__getitem__)
    target.cats = {**target.cats, **{label: float(label == best) for label in pipe.labels}}


@take_over.register
def _(pipe: MultiLabel_TextCategorizer, source: Doc, target: Doc) -> None:
    threshold = pipe.cfg["threshold"]
    target.cats = {**target.cats, **{label: float(source.cats[label] >= threshold) for label in pipe.labels}}


@take_over.register(EntityRecognizer)
@take_over.register(EntityTagger)
def _(pipe: EntityRecognizer | EntityTagger, source: Doc, target: Doc) -> None:
    target.set_ents([Span(target, ent.start, ent.end, label=ent.label_) for ent in source.ents], default="outside")


@take_over.register
def _(pipe: DependencyParser, source: Doc, target: Doc) -> None:
    _copy(source, target, [DEP, HEAD])


@take_over.register
def _(pipe: Tagger, source: Doc, target: Doc) -> None:
    _copy(source, target, [TAG])


@take_over.register
def _(pipe: Morphologizer, source: Doc, target: Doc) -> None:
    token: Any
    for given, token in zip(source, target, strict=True):
        token.pos_ = given.pos_
        token.set_morph(str(given.morph))


@take_over.register
def _(pipe: SentenceRecognizer, source: Doc, target: Doc) -> None:
    for given, token in zip(source, target, strict=True):
        token.is_sent_start = given.is_sent_start


@take_over.register
def _(pipe: EditTreeLemmatizer, source: Doc, target: Doc) -> None:
    for given, token in zip(source, target, strict=True):
        token.lemma_ = given.lemma_


@take_over.register(SpanCategorizer)
@take_over.register(SpanFinder)
def _(pipe: SpanCategorizer | SpanFinder, source: Doc, target: Doc) -> None:
    key = pipe.cfg["spans_key"]
    target.spans[key] = [Span(target, span.start, span.end, label=span.label_) for span in source.spans.get(key, [])]


@take_over.register
def _(pipe: EntityLinker, source: Doc, target: Doc) -> None:
    ents = [Span(target, ent.start, ent.end, label=ent.label_, kb_id=ent.kb_id_) for ent in source.ents]
    target.set_ents(ents, default="outside")


@take_over.register
def _(pipe: Summarizer, source: Doc, target: Doc) -> None:
    target._.summaries = [" ".join(span.text for span in source._.summary)]


@take_over.register
def _(pipe: Seq2Seq, source: Doc, target: Doc) -> None:
    target._.set(REFERENCES[pipe.target], [source._.get(EXTENSIONS[pipe.target])])


@take_over.register
def _(pipe: QuestionAnswering, source: Doc, target: Doc) -> None:
    questions = as_list(target._.questions)
    said = source._.ask([question["question"] for question in questions], component=pipe.name) if questions else []
    target._.questions = [
        {**question, "answers": [{"text": a.text, "start": a.start_char} for a in answers if a.span is not None]}
        for question, answers in zip(questions, said, strict=True)
    ]


def _copy(source: Any, target: Any, attributes: list[int]) -> None:
    for token in source:  # attributes are hashes of strings that the target's vocabulary may lack
        target.vocab.strings.add(token.tag_)
        target.vocab.strings.add(token.dep_)
    target.from_array(attributes, source.to_array(attributes))


def _annotated(reference: Doc, attribute: str) -> bool:
    # spaCy calls an empty document annotated.
    return len(reference) > 0 and reference.has_annotation(attribute)
