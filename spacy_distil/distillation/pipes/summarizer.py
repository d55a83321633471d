"""Distils `distilbert_summarizer`: a logit a sentence, of the sentences of the student's documents."""

from collections.abc import Sequence

from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import set_dropout_rate

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.gold import has_gold
from spacy_distil.distillation.heads import Head, mean_logits
from spacy_distil.distillation.lessons import Answer, Array, Lesson
from spacy_distil.distillation.losses import sigmoid_kl
from spacy_distil.pipeline.summarization.component import Summarizer


def check(student: Summarizer, teacher: Summarizer) -> None:
    """Any two fit together: there are no labels, and both are asked about the student's sentences."""


def premises(student: Summarizer, examples: Sequence[Example]) -> list[Array]:
    """(sentences, 2): the first token of each sentence, and the one behind its last."""
    return student.find_sentences(examples)


def ask(teacher: Summarizer, docs: Sequence[Doc], premises: Sequence[Array]) -> list[Answer]:
    """logits: (sentences, 1)"""
    logits = teacher.predict_logits(docs, premises)
    lengths = teacher.model.ops.asarray1i([len(sentences) for sentences in premises])
    return [{"logits": rows} for rows in teacher.model.ops.unflatten(logits, lengths)]


def update(student: Summarizer, lessons: Sequence[Lesson], batch: Batch) -> float:
    """The gold gradient and loss are the component's own, of the documents that have summaries or salient sentences; the soft
    ones come from every sentence, each compared at T = 1 (see `sigmoid_kl`)."""
    gold_weight = batch.gold_weight if any(has_gold(student, eg.reference) for eg in batch.examples) else 0.0
    sentences = student.find_sentences(batch.examples)
    if not (lessons or gold_weight) or not any(map(len, sentences)):
        return 0.0
    ops = student.model.ops
    set_dropout_rate(student.model, batch.drop)
    logits, backprop = student.model.begin_update((batch.docs, student.to_ragged(sentences)))
    gradient = ops.xp.zeros_like(logits)
    loss = 0.0
    if lessons:
        teachers = [ops.asarray2f(_stack(lesson)) for lesson in lessons]
        soft, d_soft = sigmoid_kl(logits, mean_logits(Head.LOGISTIC, teachers))
        gradient += batch.soft_weight * d_soft
        loss += batch.soft_weight * soft
    if gold_weight:
        gold, d_gold = student.get_loss(batch.examples, logits, sentences)
        gradient += gold_weight * d_gold
        loss += gold_weight * gold
    backprop(gradient)
    return loss


def _stack(lesson: Lesson) -> Array:
    """(sentences of all documents, 1)"""
    return lesson.teacher.model.ops.xp.concatenate([answer["logits"] for answer in lesson.answers])
