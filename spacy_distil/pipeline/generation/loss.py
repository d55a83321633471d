"""Cross-entropy with smoothed labels."""

from __future__ import annotations

import torch
from torch import Tensor


def smoothed_cross_entropy(logits: Tensor, gold: Tensor, smoothing: float) -> tuple[float, Tensor]:
    """The loss (Szegedy et al. 2016, section 7), summed over rows, and its gradient, (rows, pieces).

    logits: (rows, pieces); they are overwritten, since they are the largest tensor of an update.
    gold: (rows,) the right piece of each row.
    smoothing: the share of the truth that is spread evenly over all pieces.
    """
    rows = torch.arange(len(gold), device=logits.device)
    even = smoothing / logits.shape[1]
    normaliser = logits.logsumexp(dim=1)
    expected = (1.0 - smoothing) * logits[rows, gold] + even * logits.sum(dim=1)
    loss = float((normaliser - expected).sum(dtype=torch.float64))
    gradient = logits.sub_(normaliser[:, None]).exp_().sub_(even)
    gradient[rows, gold] -= 1.0 - smoothing
    return loss, gradient
