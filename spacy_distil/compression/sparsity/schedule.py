"""How sparsity rises while a pipeline trains."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CubicSchedule:
    """Zhu & Gupta 2017, eq. 1: fast first, when there is much to spare, then ever slower.

    final: the sparsity in the end.
    begin: the step after which pruning begins; those before are its warm-up.
    end: the step from which the sparsity is the final one; those after are its cool-down, in which the rest learns on.
    every: steps from one choice to the next.
    """

    final: float
    begin: int
    end: int
    every: int

    def at(self, step: int, initial: float) -> float:
        """The sparsity after a step, counted from 1."""
        if step >= self.end:
            return self.final
        left = 1.0 - (step - self.begin) / (self.end - self.begin)
        return self.final + (initial - self.final) * left**3 if step > self.begin else initial

    def chooses_at(self, step: int) -> bool:
        return step == self.end or (self.begin < step < self.end and (step - self.begin) % self.every == 0)
