"""Output layers of classifiers: what comes out of them, and what their backprop wants back.

Three thinc layers end the classifiers of spaCy. All give probabilities in training, but their backward passes differ: `Softmax`
takes the gradient of its *logits* as it comes, the two activations multiply by their own Jacobian.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from thinc.api import Model, get_array_module

from spacy_distil.distillation.errors import DistillationError, LabelError
from spacy_distil.distillation.labels import align, pick_columns
from spacy_distil.distillation.lessons import Lesson
from spacy_distil.distillation.losses import (
    Array,
    sigmoid,
    sigmoid_kl,
    sigmoid_logits,
    softmax,
    softmax_kl,
    softmax_logits,
)

SMALLEST_JACOBIAN = 1e-30
"""p or p(1 - p) counts as at least this much when a Jacobian is divided out. A student that is so sure of the wrong
answer gets no gradient from such a head, whatever it is fed."""


class Head(Enum):
    """The last layer of a classifier, by thinc's name of it."""

    SOFTMAX = "softmax"
    SOFTMAX_ACTIVATION = "softmax_activation"
    LOGISTIC = "logistic"

    @property
    def exclusive(self) -> bool:
        """Whether the scores of a row sum to 1."""
        return self is not Head.LOGISTIC


def find_head(model: Model, component: str) -> Head:
    """The layer that gives the scores of a classifier.

    component: name, for the error.
    RAISES: DistillationError if the model ends in any other layer.
    """
    layer = _last_layer(model)
    try:
        return Head(layer.name)
    except ValueError:
        known = ", ".join(f"'{head.value}'" for head in Head)
        raise DistillationError(
            f"Component '{component}': its model ends in the layer '{layer.name}', whose scores can't be distilled. "
            f"Known output layers: {known}. Use an architecture that ends in one of them."
        ) from None


def check_heads(component: str, student: Model, teacher: Model) -> None:
    """Whether both models give scores of the same kind, in layers that can be distilled.

    RAISES: DistillationError, LabelError.
    """
    heads = [find_head(model, component) for model in (student, teacher)]
    if heads[0].exclusive != heads[1].exclusive:
        kinds = ["exclusive classes" if head.exclusive else "independent labels" for head in heads]
        raise LabelError(
            f"Component '{component}': the student has {kinds[0]}, the teacher {kinds[1]}. Use the same factory, "
            "as `textcat` or `textcat_multilabel`, `spancat` or `spancat_singlelabel`, and the same output layer in both."
        )


def soft_loss(head: Head, student: Array, teacher: Array, temperature: float) -> tuple[float, Array]:
    """The loss of a batch of scores against the teacher's.

    student: probabilities, (rows, classes).
    teacher: logits, (rows, classes), in the same order of classes.
    temperature: for exclusive classes; independent labels are compared at T = 1 (see `sigmoid_kl`).
    RETURNS: the loss summed over rows, and the gradient that the student's head wants, (rows, classes).
    """
    if head.exclusive:
        loss, d_logits = softmax_kl(softmax_logits(student), teacher, temperature)
    else:
        loss, d_logits = sigmoid_kl(sigmoid_logits(student), teacher)
    return loss, head_gradient(head, d_logits, student)


def head_gradient(head: Head, d_logits: Array, probabilities: Array) -> Array:
    """What the backprop of a head must be fed so that the gradient `d_logits` leaves it on the other side.

    d_logits: (rows, classes); for exclusive classes its rows sum to zero, as those of every loss on a softmax do.
    probabilities: the head's output, (rows, classes).
    """
    xp = get_array_module(d_logits)
    if head is Head.SOFTMAX:
        return d_logits
    if head is Head.SOFTMAX_ACTIVATION:
        # The Jacobian is diag(p) - p pᵀ, and (diag(p) - p pᵀ)(d / p) = d - p Σd = d.
        return d_logits / xp.maximum(probabilities, SMALLEST_JACOBIAN)
    return d_logits / xp.maximum(probabilities * (1 - probabilities), SMALLEST_JACOBIAN)


def to_logits(head: Head, probabilities: Array) -> Array:
    """Logits that give the head's probabilities, (rows, classes)."""
    return softmax_logits(probabilities) if head.exclusive else sigmoid_logits(probabilities)


def predicted_logits(model: Model, scores: Array, component: str) -> Array:
    """Logits of what `model.predict` gave, (rows, classes). The softmax of a tagger leaves them as they are, except in
    training."""
    attributes = _last_layer(model).attrs
    if attributes.get("softmax_normalize", True):
        return to_logits(find_head(model, component), scores)
    return scores / attributes["softmax_temperature"]


def lesson_logits(head: Head, student: Any, lessons: Sequence[Lesson], labels: Callable[[Any], Sequence[str]]) -> Array:
    """What the teachers say together of all rows of a batch, in the student's order of labels.

    student: the component.
    lessons: their answers hold "logits", (rows of the Doc, classes), in each teacher's own order.
    labels: gives the names of a component's classes, in the order of its scores.
    RETURNS: logits, (rows, classes), where the student's arrays are.
    """
    ops, each = student.model.ops, []
    for lesson in lessons:
        columns = align(student.name, labels(student), labels(lesson.teacher))
        rows = lesson.teacher.model.ops.xp.concatenate([answer["logits"] for answer in lesson.answers])
        each.append(pick_columns(ops.asarray2f(rows), columns))
    return mean_logits(head, each)


def mean_logits(head: Head, teachers: Sequence[Array]) -> Array:
    """What several teachers say together: logits of the arithmetic mean of their probabilities (Hinton et al. 2015,
    section 3).

    teachers: each teacher's logits, (rows, classes), in the student's order of classes. A single one's stay as they are.
    RETURNS: (rows, classes)
    """
    if len(teachers) == 1:
        return teachers[0]
    if head.exclusive:
        return softmax_logits(sum(softmax(logits) for logits in teachers) / len(teachers))
    return sigmoid_logits(sum(sigmoid(logits) for logits in teachers) / len(teachers))


def _last_layer(model: Model) -> Model:
    while model.layers:
        model = model.layers[-1]
    return model
