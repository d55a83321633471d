"""Output layers of classifiers: what comes out of them, and what their backprop wants back.

Three thinc layers end the classifiers of spaCy. All give probabilities in training, but their backward passes differ: `Softmax`
takes the gradient of its *logits* as it comes, the two activations multiply by their own Jacobian.
"""

from enum import Enum

from thinc.api import Model, get_array_module

from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.losses import Array, sigmoid_kl, sigmoid_logits, softmax_kl, softmax_logits

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
    node = model
    while node.layers:
        node = node.layers[-1]
    try:
        return Head(node.name)
    except ValueError:
        known = ", ".join(f"'{head.value}'" for head in Head)
        raise DistillationError(
            f"Component '{component}': its model ends in the layer '{node.name}', whose scores can't be distilled. "
            f"Known output layers: {known}. Use an architecture that ends in one of them."
        ) from None


def soft_loss(head: Head, student: Array, teacher: Array, temperature: float) -> tuple[float, Array]:
    """The loss of a batch of scores against the teacher's.

    student, teacher: probabilities, (rows, classes), in the same order of classes.
    temperature: for exclusive classes; independent labels are compared at T = 1 (see `sigmoid_kl`).
    RETURNS: the loss summed over rows, and the gradient that the student's head wants, (rows, classes).
    """
    if head.exclusive:
        loss, d_logits = softmax_kl(softmax_logits(student), softmax_logits(teacher), temperature)
    else:
        loss, d_logits = sigmoid_kl(sigmoid_logits(student), sigmoid_logits(teacher))
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
