"""The mathematics of soft labels: Kullback-Leibler divergence from teacher to student at a temperature.

Each loss is a *sum* over rows (texts, tokens or parser states), never a mean, and its gradient is the exact derivative of that
sum. So are the gradients of spaCy's own components, so that soft and gold gradients are added by weight as they are.

Arrays may be numpy's or cupy's; results have the type of the student's logits.
"""

from typing import Any

from thinc.api import get_array_module

Array = Any  # numpy or cupy, (rows, classes)

SMALLEST_PROBABILITY = 1e-30
"""Where a logarithm is taken, smaller probabilities count as this one: float32 ends at about 1e-38."""
SMALLEST_COMPLEMENT = 2.0**-25
"""The same for 1 - p, which float32 can't tell from 0 below half its rounding unit."""


def softmax_kl(student: Array, teacher: Array, temperature: float = 1.0) -> tuple[float, Array]:
    """The loss of exclusive classes: T² · KL(softmax(teacher / T) ‖ softmax(student / T)), summed over rows.

    T² keeps the gradient's size independent of the temperature (Hinton, Vinyals and Dean 2015, "Distilling the Knowledge
    in a Neural Network", section 2).

    student, teacher: logits, (rows, classes), finite.
    temperature: T > 0; above 1 the small probabilities weigh more.
    RETURNS: the loss, and its gradient with respect to the student's logits, (rows, classes).
    """
    log_q = _log_softmax(student / temperature)
    log_p = _log_softmax(teacher.astype(student.dtype) / temperature)
    p, q = _exp(log_p), _exp(log_q)
    loss = temperature**2 * float((p * (log_p - log_q)).sum(dtype="float64"))
    return loss, temperature * (q - p)


def sigmoid_kl(student: Array, teacher: Array, temperature: float = 1.0) -> tuple[float, Array]:
    """The loss of independent labels: T² · sum of KL(sigmoid(teacher / T) ‖ sigmoid(student / T)).

    A single label has no wrong classes among which a temperature could show an order, and it pulls confident teachers
    towards 1/2: hence T = 1 unless asked for.

    student, teacher: logits, (rows, labels), finite.
    RETURNS: the loss, and its gradient with respect to the student's logits, (rows, labels).
    """
    z, t = student / temperature, teacher.astype(student.dtype) / temperature
    p, q = _exp(_log_sigmoid(t)), _exp(_log_sigmoid(z))
    divergence = p * (_log_sigmoid(t) - _log_sigmoid(z)) + (1 - p) * (_log_sigmoid(-t) - _log_sigmoid(-z))
    return temperature**2 * float(divergence.sum(dtype="float64")), temperature * (q - p)


def softmax(logits: Array) -> Array:
    return _exp(_log_softmax(logits))


def sigmoid(logits: Array) -> Array:
    return _exp(_log_sigmoid(logits))


def softmax_logits(probabilities: Array) -> Array:
    """Logits of which these are the softmax, (rows, classes): their logarithms. They differ from the model's own by a
    constant per row, to which every softmax is blind, so a temperature needs no access to the model."""
    xp = get_array_module(probabilities)
    return xp.log(xp.maximum(probabilities, SMALLEST_PROBABILITY))


def sigmoid_logits(probabilities: Array) -> Array:
    """Logits of which these are the sigmoid, (rows, labels)."""
    xp = get_array_module(probabilities)
    complement = xp.maximum(1 - probabilities, SMALLEST_COMPLEMENT)
    return xp.log(xp.maximum(probabilities, SMALLEST_PROBABILITY)) - xp.log(complement)


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - get_array_module(logits).log(_exp(shifted).sum(axis=-1, keepdims=True))


def _log_sigmoid(logits: Array) -> Array:
    return -get_array_module(logits).logaddexp(0, -logits)


def _exp(array: Array) -> Array:
    return get_array_module(array).exp(array)
