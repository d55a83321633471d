"""Which shapes are tried, in which order, and when it is enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from spacy_distil.compression.search.settings import Limits, Settings
from spacy_distil.compression.search.shapes import WIDTHS, Shape
from spacy_distil.compression.search.trial import Cost, Trial, find_best

MARGIN = 1.03
"""How much better than a limit a shape has to be before it is trained: heads and neurons that stay differ from those that were
timed, and timing is not exact."""


class Tries(Protocol):
    """Where shapes are tried; see `workshop.Workshop`.

    depth: the layers of the whole pipeline.
    """

    depth: int

    def measure_shape(self, shape: Shape) -> list[Cost]:
        """What it costs, in each precision, before any training."""

    def try_shape(self, shape: Shape) -> list[Trial]:
        """Train it, and score it in each precision."""


def search(tries: Tries, settings: Settings, depths: Sequence[int]) -> list[Trial]:
    """Try shapes until nothing better can be expected, or `settings.trials` of them have been trained.

    First every number of layers, each as wide as the limits of cost let it be, the most balanced between depth and width
    first: what the heads of whole layers can do is worth less than what the best heads of some more layers can. Then, if the
    score may drop, narrower ones of the number of layers that was best, as long as the score is good enough.

    depths: the numbers of layers, descending.
    RETURNS: the trials, in the order in which they were made. A shape that can't cost little enough is not among them.
    """
    limits = settings.limits
    if settings.compute is None:
        widths: Sequence[float] = WIDTHS
    else:
        widths = sorted(settings.compute, reverse=True)
    if settings.is_grid:
        shapes = [Shape(depth, width) for depth in depths for width in widths]
    else:
        widest = {depth: find_widest(tries, depth, widths, limits) for depth in depths}
        shapes = [Shape(depth, width) for depth, width in widest.items() if width is not None]
        shapes.sort(key=lambda shape: imbalance(shape, tries.depth))
    trials: dict[str, Trial] = {}

    def try_shape(shape: Shape) -> bool:
        """Unless that would be too many trainings."""
        trained = {trial.shape for trial in trials.values()} | {shape, shape.whole_layers}
        if len(trained - {Shape(tries.depth)}) > settings.trials:
            return False
        trials.update({trial.name: trial for trial in tries.try_shape(shape)})
        return True

    for shape in shapes:
        try_shape(shape)
    while not settings.is_grid and (narrower := narrow(list(trials.values()), widths, limits)) is not None:
        if not try_shape(narrower):
            break
    return list(trials.values())


def find_widest(tries: Tries, depth: int, widths: Sequence[float], limits: Limits) -> float | None:
    """The largest of the widths, which descend, at which so many layers cost little enough, before any training; by halving.
    None where not even the smallest does."""

    def is_cheap(width: float) -> bool:
        speedup = None if limits.speedup is None else MARGIN * limits.speedup
        wanted = Limits(speedup, limits.size)
        return any(wanted.allow_cost(cost.speedup, cost.disk) for cost in tries.measure_shape(Shape(depth, width)))

    low, high = 0, len(widths)  # the first cheap one is in [low, high]
    while low < high:
        middle = (low + high) // 2
        if is_cheap(widths[middle]):
            high = middle
        else:
            low = middle + 1
    return widths[low] if low < len(widths) else None


def imbalance(shape: Shape, deepest: int) -> float:
    """How far the shares of layers and of their width that stay are from each other."""
    return abs(math.log(shape.layers / deepest) - math.log(shape.compute))


def narrow(trials: Sequence[Trial], widths: Sequence[float], limits: Limits) -> Shape | None:
    """The next shape that may be better than the best so far, with the same layers.

    Where the score may drop, and has not dropped too much: half-way, in the order of the widths, between the best and the first
    narrower one that was tried, whose score was not good enough. Where it may drop as it likes: the next narrower one, if
    the limits of cost have been missed.

    None where nothing is to be gained.
    """
    if limits.max_drop is None:
        reached = any(limits.allow_cost(trial.cost.speedup, trial.cost.disk) for trial in trials)
        start, most = (None, 1) if reached else (find_best(trials, Limits(max_drop=math.inf)), 1)
    else:
        wanted = (
            Limits(size=math.inf, max_drop=limits.max_drop) if limits.wants_small else Limits(max_drop=limits.max_drop)
        )
        start, most = find_best(trials, wanted), len(widths)
    if start is None:
        return None
    tried = {trial.shape for trial in trials}
    layers, first = start.shape.layers, widths.index(start.shape.compute)
    last = next((i for i in range(first + 1, len(widths)) if Shape(layers, widths[i]) in tried), len(widths))
    step = min((last - first) // 2, most)
    return Shape(layers, widths[first + step]) if step else None
