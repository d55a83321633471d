"""Distils `tagger`, `morphologizer`, `senter` and `trainable_lemmatizer`: one row of scores a token."""

from collections.abc import Sequence
from typing import TypeAlias

from spacy.pipeline import EditTreeLemmatizer, Tagger
from spacy.tokens import Doc
from thinc.api import set_dropout_rate

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.edit_trees import describe, restore_labels
from spacy_distil.distillation.gold import has_gold
from spacy_distil.distillation.heads import check_heads, find_head, lesson_logits, predicted_logits, soft_loss
from spacy_distil.distillation.labels import align, check_corpus
from spacy_distil.distillation.lessons import Answer, Array, Lesson

TokenPipe: TypeAlias = Tagger | EditTreeLemmatizer


def check(student: TokenPipe, teacher: TokenPipe) -> None:
    align(student.name, _labels(student), _labels(teacher))
    check_heads(student.name, student.model, teacher.model)


def ask(teacher: TokenPipe, docs: Sequence[Doc], premises: Sequence[Array]) -> list[Answer]:
    """logits: (tokens, labels)"""
    if not any(len(doc) for doc in docs):
        return [{"logits": teacher.model.ops.alloc2f(0, len(teacher.labels))} for _ in docs]
    scores = teacher.model.predict(docs)
    return [{"logits": predicted_logits(teacher.model, rows, teacher.name)} for rows in scores]


def update(student: TokenPipe, lessons: Sequence[Lesson], batch: Batch) -> float:
    """The gold gradient and loss are spaCy's own, of the documents that have annotation; the soft ones come from every
    token. The loss adds up a divergence and the sum of a squared gradient: read it as a trend."""
    annotated = [i for i, example in enumerate(batch.examples) if has_gold(student, example.reference)]
    gold_weight = batch.gold_weight if annotated else 0.0
    if not (lessons or gold_weight) or not any(len(doc) for doc in batch.docs):
        return 0.0
    ops = student.model.ops
    set_dropout_rate(student.model, batch.drop)
    scores, backprop = student.model.begin_update(batch.docs)
    gradient = [ops.xp.zeros_like(rows) for rows in scores]
    loss = 0.0
    if lessons:
        head = find_head(student.model, student.name)
        teachers = lesson_logits(head, student, lessons, _labels)
        soft, d_soft = soft_loss(head, ops.xp.concatenate(scores), teachers, batch.temperature)
        lengths = ops.asarray1i([len(rows) for rows in scores])
        for rows, d_rows in zip(gradient, ops.unflatten(d_soft, lengths), strict=True):
            rows += batch.soft_weight * d_rows
        loss += batch.soft_weight * soft
    if gold_weight:
        _prepare_gold(student, [batch.examples[i].reference for i in annotated])
        gold, d_gold = student.get_loss([batch.examples[i] for i in annotated], [scores[i] for i in annotated])
        for i, d_rows in zip(annotated, d_gold, strict=True):
            gradient[i] += gold_weight * d_rows
        loss += gold_weight * float(gold)
    backprop(gradient)
    return loss


def _labels(pipe: TokenPipe) -> Sequence[str]:
    if isinstance(pipe, EditTreeLemmatizer):
        return [describe(pipe.trees, tree, pipe.vocab.strings) for tree in pipe.labels]
    return pipe.labels


def _prepare_gold(student: TokenPipe, references: Sequence[Doc]) -> None:
    if isinstance(student, EditTreeLemmatizer):
        restore_labels(student)
    elif type(student) is Tagger:  # its subclasses pass over what they don't know
        negative = student.cfg["neg_prefix"]
        tags = {token.tag_ for doc in references for token in doc if token.tag}
        check_corpus(student.name, {tag.removeprefix(negative) for tag in tags}, student.labels)
