"""Distils `textcat` and `textcat_multilabel`: one row of scores a text."""

from collections.abc import Sequence

from spacy.pipeline import TextCategorizer
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import set_dropout_rate

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.gold import has_gold
from spacy_distil.distillation.heads import check_heads, find_head, lesson_logits, soft_loss, to_logits
from spacy_distil.distillation.labels import align
from spacy_distil.distillation.lessons import Answer, Array, Lesson


def check(student: TextCategorizer, teacher: TextCategorizer) -> None:
    align(student.name, student.labels, teacher.labels)
    check_heads(student.name, student.model, teacher.model)


def ask(teacher: TextCategorizer, docs: Sequence[Doc], premises: Sequence[Array]) -> list[Answer]:
    """logits: (1, labels); zeros where no document has a token, which not every model can read."""
    if not any(len(doc) for doc in docs):
        return [{"logits": teacher.model.ops.alloc2f(1, len(teacher.labels))} for _ in docs]
    scores = teacher.model.predict(docs)
    return [{"logits": row[None]} for row in to_logits(find_head(teacher.model, teacher.name), scores)]


def update(student: TextCategorizer, lessons: Sequence[Lesson], batch: Batch) -> float:
    """The gold gradient and loss are spaCy's own, of the texts that have a category of this component; the soft ones come
    from every text. The loss adds up a divergence and spaCy's mean square error: read it as a trend."""
    annotated = [i for i, example in enumerate(batch.examples) if has_gold(student, example.reference)]
    gold_weight = batch.gold_weight if annotated else 0.0
    if not lessons and not gold_weight:
        return 0.0
    set_dropout_rate(student.model, batch.drop)
    scores, backprop = student.model.begin_update(batch.docs)
    gradient = student.model.ops.xp.zeros_like(scores)
    loss = 0.0
    if lessons:
        head = find_head(student.model, student.name)
        teachers = lesson_logits(head, student, lessons, lambda pipe: pipe.labels)
        soft, d_soft = soft_loss(head, scores, teachers, batch.temperature)
        gradient += batch.soft_weight * d_soft
        loss += batch.soft_weight * soft
    if gold_weight:
        examples = [_own_categories(student, batch.examples[i]) for i in annotated]
        gold, d_gold = student.get_loss(examples, scores[annotated])
        gradient[annotated] += gold_weight * d_gold
        loss += gold_weight * float(gold)
    backprop(gradient)
    return loss


def _own_categories(student: TextCategorizer, example: Example) -> Example:
    """The example without the categories of other components, which spaCy would count among the exclusive ones."""
    own = {label: value for label, value in example.reference.cats.items() if label in student.labels}
    if len(own) == len(example.reference.cats):
        return example
    reference = example.reference.copy()
    reference.cats = own
    return Example(example.predicted, reference)
