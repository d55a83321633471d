"""Distils `spancat` and `spancat_singlelabel`: one row of scores for each span that the student's suggester proposes."""

from collections.abc import Sequence

import numpy
from spacy.pipeline import SpanCategorizer
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Ops, Ragged, set_dropout_rate, to_numpy

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.gold import has_gold
from spacy_distil.distillation.heads import check_heads, find_head, lesson_logits, predicted_logits, soft_loss
from spacy_distil.distillation.labels import align, check_corpus
from spacy_distil.distillation.lessons import Answer, Array, Lesson

NEGATIVE = "(no label)"
"""Name of the column for "none of them", which `spancat_singlelabel` puts behind those of its labels."""


def check(student: SpanCategorizer, teacher: SpanCategorizer) -> None:
    check_heads(student.name, student.model, teacher.model)
    align(student.name, _labels(student), _labels(teacher))


def premises(student: SpanCategorizer, examples: Sequence[Example]) -> list[Array]:
    """(spans, 2): the first token of each suggested span, and the one behind its last."""
    return _suggest(student, [example.predicted for example in examples])


def ask(teacher: SpanCategorizer, docs: Sequence[Doc], premises: Sequence[Array]) -> list[Answer]:
    """logits: (spans, labels), with another column for "no label" where the component has one."""
    ops = teacher.model.ops
    lengths = [len(spans) for spans in premises]
    if not sum(lengths):
        return [{"logits": ops.alloc2f(0, len(_labels(teacher)))} for _ in docs]
    scores = teacher.model.predict((list(docs), _ragged(premises, ops)))
    logits = predicted_logits(teacher.model, scores, teacher.name)
    return [{"logits": rows} for rows in ops.unflatten(logits, ops.asarray1i(lengths))]


def update(student: SpanCategorizer, lessons: Sequence[Lesson], batch: Batch) -> float:
    """The gold gradient and loss are spaCy's own, of the documents that have the span group; the soft ones come from every
    suggested span. The loss adds up a divergence and the sum of a squared gradient: read it as a trend."""
    spans = _suggest(student, batch.docs)
    owner = numpy.repeat(numpy.arange(len(spans)), [len(rows) for rows in spans])
    annotated = [i for i, eg in enumerate(batch.examples) if len(spans[i]) and has_gold(student, eg.reference)]
    gold_weight = batch.gold_weight if annotated else 0.0
    if not (lessons or gold_weight) or not len(owner):
        return 0.0
    ops = student.model.ops
    set_dropout_rate(student.model, batch.drop)
    scores: Array
    scores, backprop = student.model.begin_update((batch.docs, _ragged(spans, ops)))
    gradient = ops.xp.zeros_like(scores)
    loss = 0.0
    if lessons:
        head = find_head(student.model, student.name)
        teachers = lesson_logits(head, student, lessons, _labels)
        soft, d_soft = soft_loss(head, scores, teachers, batch.temperature)
        gradient += batch.soft_weight * d_soft
        loss += batch.soft_weight * soft
    if gold_weight:
        examples = [batch.examples[i] for i in annotated]
        used = {span.label_ for eg in examples for span in eg.reference.spans[student.key]}
        check_corpus(student.name, used, student.labels)
        rows = numpy.flatnonzero(numpy.isin(owner, annotated)).tolist()
        gold, d_gold = student.get_loss(examples, (_ragged([spans[i] for i in annotated], ops), scores[rows]))
        gradient[rows] += gold_weight * d_gold
        loss += gold_weight * float(gold)
    backprop(gradient)
    return loss


def _suggest(student: SpanCategorizer, docs: Sequence[Doc]) -> list[Array]:
    """For each document, (spans, 2), numpy's."""
    spans = student.suggester(docs, ops=student.model.ops)
    ends = numpy.cumsum(to_numpy(spans.lengths))
    return numpy.split(to_numpy(spans.dataXd).reshape(-1, 2), ends[:-1])


def _ragged(spans: Sequence[Array], ops: Ops) -> Ragged:
    rows: Array = numpy.concatenate(spans)
    return Ragged(ops.asarray2i(rows), ops.asarray1i([len(rows) for rows in spans]))


def _labels(pipe: SpanCategorizer) -> Sequence[str]:
    return [*pipe.labels, NEGATIVE] if pipe.add_negative_label else pipe.labels
