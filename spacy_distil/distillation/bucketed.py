"""Divergence where a teacher names its likeliest classes and puts all others into one: of thousands of classes few matter, and
an answer stays small."""

import torch
from thinc.util import torch2xp, xp2torch
from torch import Tensor

from spacy_distil.distillation.losses import softmax_kl

SMALLEST = -60.0
"""The least logarithm of a probability: that of what is left over may be 0."""


def name_likeliest(logits: Tensor, n_named: int) -> tuple[Tensor, Tensor]:
    """The likeliest classes of each row, (rows, named), and logarithms of their probabilities and of the sum of all others',
    (rows, named + 1).

    logits: (rows, classes).
    n_named: less where there are not as many classes: one has to be left over.
    """
    n_named = min(n_named, logits.shape[1] - 1)
    values, classes = logits.topk(n_named, dim=1)
    normalisers = logits.logsumexp(dim=1, keepdim=True)
    others = _without(logits, classes).logsumexp(dim=1, keepdim=True)
    return classes, (torch.cat([values, others], dim=1) - normalisers).clamp(min=SMALLEST)


def bucketed_kl(student: Tensor, classes: Tensor, teacher: Tensor, temperature: float) -> tuple[float, Tensor]:
    """`losses.softmax_kl` over the classes that the teacher names and one that holds all others, of both of them. With all
    classes but one named it is that very loss.

    student: logits, (rows, classes).
    classes, teacher: as `name_likeliest` gives them.
    RETURNS: the loss, summed over rows, and its gradient with respect to the student's logits, (rows, classes).
    """
    others = _without(student, classes)
    sums = others.logsumexp(dim=1, keepdim=True)
    named = torch.cat([student.gather(1, classes), sums], dim=1)
    loss, gradient = softmax_kl(torch2xp(named), torch2xp(teacher), temperature)
    d_named = xp2torch(gradient, device=student.device)
    d_student = others.sub_(sums).exp_().mul_(d_named[:, -1:])
    return loss, d_student.scatter_(1, classes, d_named[:, :-1])


def _without(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.scatter(1, classes, float("-inf"))
