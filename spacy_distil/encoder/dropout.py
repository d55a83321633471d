"""Dropout (Srivastava et al. 2014) that a processor draws quickly."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 1 << 16


def dropout(x: Tensor, rate: float, training: bool = True) -> Tensor:
    """Zeros at the rate, everything else scaled up to keep the mean. Gradients flow where values did.

    What bounds it on a processor is torch's generator, one number at a time for each element: a quarter of those numbers
    will do, each cut into four. The rate is rounded to a multiple of 2^-16.
    """
    if not training or rate == 0.0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, rate)
    dropped = round(rate * LEVELS)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    uniform = bits.view(torch.int16)[: x.numel()].view(x.shape)
    kept = uniform >= dropped - LEVELS // 2 if dropped < LEVELS else torch.zeros(x.shape, dtype=torch.bool)
    return x * kept.to(x.dtype).mul_(LEVELS / max(LEVELS - dropped, 1))
