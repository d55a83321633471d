"""Distils `span_finder`: two scores a token, of whether a span starts there and whether one ends there."""

from collections.abc import Sequence

import numpy
from spacy.pipeline.span_finder import SpanFinder
from spacy.tokens import Doc
from thinc.api import Model, set_dropout_rate

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.gold import has_gold
from spacy_distil.distillation.heads import check_heads, find_head, lesson_logits, predicted_logits, soft_loss
from spacy_distil.distillation.lessons import Answer, Array, Lesson

COLUMNS = ("start", "end")


def check(student: SpanFinder, teacher: SpanFinder) -> None:
    check_heads(student.name, _scorer(student), _scorer(teacher))


def ask(teacher: SpanFinder, docs: Sequence[Doc], premises: Sequence[Array]) -> list[Answer]:
    """logits: (tokens, 2)"""
    ops = teacher.model.ops
    lengths = [len(doc) for doc in docs]
    if not sum(lengths):
        return [{"logits": ops.alloc2f(0, len(COLUMNS))} for _ in docs]
    logits = predicted_logits(_scorer(teacher), teacher.model.predict(docs), teacher.name)
    return [{"logits": rows} for rows in ops.unflatten(logits, ops.asarray1i(lengths))]


def update(student: SpanFinder, lessons: Sequence[Lesson], batch: Batch) -> float:
    """The gold gradient and loss are spaCy's own, of the documents that have the span group; the soft ones come from every
    token. The loss adds up a divergence and the sum of a squared gradient: read it as a trend."""
    annotated = [i for i, example in enumerate(batch.examples) if has_gold(student, example.reference)]
    gold_weight = batch.gold_weight if annotated else 0.0
    if not (lessons or gold_weight) or not any(len(doc) for doc in batch.docs):
        return 0.0
    ops = student.model.ops
    set_dropout_rate(student.model, batch.drop)
    scores, backprop = student.model.begin_update(batch.docs)
    gradient = ops.xp.zeros_like(scores)
    loss = 0.0
    if lessons:
        head = find_head(_scorer(student), student.name)
        teachers = lesson_logits(head, student, lessons, lambda _: COLUMNS)
        soft, d_soft = soft_loss(head, scores, teachers, batch.temperature)
        gradient += batch.soft_weight * d_soft
        loss += batch.soft_weight * soft
    if gold_weight:
        owner = numpy.repeat(numpy.arange(len(batch.docs)), [len(doc) for doc in batch.docs])
        rows = numpy.flatnonzero(numpy.isin(owner, annotated)).tolist()
        gold, d_gold = student.get_loss([batch.examples[i] for i in annotated], scores[rows])
        gradient[rows] += gold_weight * d_gold
        loss += gold_weight * gold
    backprop(gradient)
    return loss


def _scorer(pipe: SpanFinder) -> Model:
    """The part that ends in the output layer: the whole model ends in one that strings documents together."""
    return pipe.model.get_ref("scorer")
