"""Distils `textcat` and `textcat_multilabel`: one row of scores a text."""

from spacy.pipeline import TextCategorizer
from spacy.training import Example
from thinc.api import set_dropout_rate

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.errors import LabelError
from spacy_distil.distillation.gold import has_gold
from spacy_distil.distillation.heads import find_head, soft_loss
from spacy_distil.distillation.labels import align, pick_columns


def check(student: TextCategorizer, teacher: TextCategorizer) -> None:
    align(student.name, student.labels, teacher.labels)
    heads = [find_head(pipe.model, student.name) for pipe in (student, teacher)]
    if heads[0].exclusive != heads[1].exclusive:
        kinds = ["exclusive classes" if head.exclusive else "independent labels" for head in heads]
        raise LabelError(
            f"Component '{student.name}': the student has {kinds[0]}, the teacher {kinds[1]}. Use the same factory, "
            "`textcat` or `textcat_multilabel`, and the same `exclusive_classes` in both."
        )


def update(student: TextCategorizer, teacher: TextCategorizer | None, batch: Batch) -> float:
    """The gold gradient and loss are spaCy's own, of the texts that have a category of this component; the soft ones come
    from every text. The loss adds up a divergence and spaCy's mean square error: read it as a trend."""
    annotated = [i for i, example in enumerate(batch.examples) if has_gold(student, example.reference)]
    gold_weight = batch.gold_weight if annotated else 0.0
    if teacher is None and not gold_weight:
        return 0.0
    set_dropout_rate(student.model, batch.drop)
    scores, backprop = student.model.begin_update(batch.docs)
    gradient = student.model.ops.xp.zeros_like(scores)
    loss = 0.0
    if teacher is not None:
        columns = align(student.name, student.labels, teacher.labels)
        teacher_scores = pick_columns(teacher.predict(batch.teacher_docs), columns)
        soft, d_soft = soft_loss(find_head(student.model, student.name), scores, teacher_scores, batch.temperature)
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
