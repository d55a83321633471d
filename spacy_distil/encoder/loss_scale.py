"""Loss scaling for float16, whose smallest numbers are larger than many gradients (Micikevicius et al. 2018, 3.2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

GROWTH_INTERVAL = 2000


class LossScale:
    """Doubles after 2,000 steps without an overflow, halves at an overflow, whose step is left out."""

    def __init__(self, scale: float = 2.0**16) -> None:
        self.factor = scale
        self.good_steps = 0

    def scale(self, gradients: list[Tensor]) -> list[Tensor]:
        return [gradient * self.factor for gradient in gradients]

    @torch.no_grad()
    def unscale(self, gradients: Iterable[Tensor | None]) -> bool:
        """Divide the gradients in place, or zero them all where one overflowed. Returns whether they can be used."""
        present = [gradient for gradient in gradients if gradient is not None]
        finite = all(bool(torch.isfinite(gradient).all()) for gradient in present)
        for gradient in present:
            gradient.mul_(1.0 / self.factor) if finite else gradient.zero_()
        self.good_steps = self.good_steps + 1 if finite else 0
        if not finite:
            self.factor /= 2.0
        elif self.good_steps % GROWTH_INTERVAL == 0:
            self.factor *= 2.0
        return finite
