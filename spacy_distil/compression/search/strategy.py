"""Which shapes are tried, in which order, and when it is enough."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Protocol

from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.search.settings import Limits, Settings
from spacy_distil.compression.search.shapes import WIDTHS, Shape
from spacy_distil.compression.search.trial import Cost, Trial, find_best, find_cheapest

MARGIN = 1.03
"""By how much a shape has to be better than a limit before it is trained: timing is not exact."""


class Tries(Protocol):
    """Where shapes are tried; see `workshop.Workshop`.

    depth: the layers of the whole pipeline.
    """

    depth: int

    def can_make(self, shape: Shape) -> bool:
        """Whether so much can go: each layer keeps some of it."""

    def measure_shape(self, shape: Shape) -> list[Cost]:
        """What it costs, in each precision, before any training."""

    def try_shape(self, shape: Shape) -> list[Trial]:
        """Train it, and score it in each precision, after the whole layers that it is made from."""


def search(tries: Tries, settings: Settings, depths: Sequence[int]) -> list[Trial]:
    """Try shapes until no narrower one can be expected to be inside the limits, or `settings.trials` of them have been trained.

    First every number of layers, each as wide as the limits of cost let it be, the most balanced between depth and width
    first: what the heads of whole layers can do is worth less than what the best heads of some more layers can. Then, if the
    score may drop, narrower ones of the number of layers whose trial is best, as long as the score is good enough.

    depths: the numbers of layers, descending.
    RETURNS: the trials, in the order in which they were made.
    RAISES: CompressionError where no shape costs little enough, and for one that was named and can't be made.
    """
    trials: dict[str, Trial] = {}
    if settings.is_grid:
        for shape in make_grid(tries, settings, depths):
            trials.update({trial.name: trial for trial in tries.try_shape(shape)})
        return list(trials.values())
    limits = settings.limits
    wanted = sorted(WIDTHS if settings.compute is None else settings.compute, reverse=True)
    widths = {depth: [width for width in wanted if tries.can_make(Shape(depth, width))] for depth in depths}
    shapes = find_shapes(tries, widths, limits)
    waiting = sorted(shapes, key=lambda shape: imbalance(shape, tries.depth))
    trained: set[Shape] = set()
    while waiting:
        shape = waiting.pop(0)
        trainings = {shape, shape.whole_layers} - {Shape(tries.depth)} - trained
        if trials and len(trained) + len(trainings) > settings.trials:
            continue
        trained |= trainings
        trials.update({trial.name: trial for trial in tries.try_shape(shape)})
        if not waiting and (narrower := narrow(list(trials.values()), shapes, widths, limits)) is not None:
            waiting = [narrower]
    return list(trials.values())


def make_grid(tries: Tries, settings: Settings, depths: Sequence[int]) -> list[Shape]:
    """RAISES: CompressionError for a shape that can't be made."""
    shapes = [Shape(depth, width) for depth in depths for width in sorted(settings.compute or (), reverse=True)]
    for shape in shapes:
        if not tries.can_make(shape):
            raise CompressionError(
                f"compute = {shape.compute}: with {shape.layers} layers, each of which keeps a head and some neurons, more is "
                "left. Ask for a larger share, or for fewer layers."
            )
    return shapes


def find_shapes(tries: Tries, widths: Mapping[int, Sequence[float]], limits: Limits) -> list[Shape]:
    """Each number of layers with the largest of its widths that costs little enough.

    RAISES: CompressionError where there is none.
    """
    widest = {depth: find_widest(tries, depth, possible, limits) for depth, possible in widths.items()}
    found = [Shape(depth, width) for depth, width in widest.items() if width is not None]
    if not found:
        narrowest = [Shape(depth, possible[-1]) for depth, possible in widths.items() if possible]
        costs = [(cost, shape) for shape in narrowest for cost in tries.measure_shape(shape)]
        known = "".join(
            f" {shape.name} would have {cost.speedup:.2f} times the speed and {cost.disk / 1e6:.1f} MB."
            for cost, shape in sorted(costs, key=lambda pair: limits.miss_by(pair[0].speedup, pair[0].disk))[:1]
        )
        raise CompressionError(f"No shape is fast or small enough.{known} Ask for less, or for fewer layers.")
    return found


def find_widest(tries: Tries, depth: int, widths: Sequence[float], limits: Limits) -> float | None:
    """The largest of the widths, which descend, at which so many layers cost little enough, before any training; by halving.
    None where not even the smallest does."""
    wanted = Limits(limits.speedup and MARGIN * limits.speedup, limits.size and limits.size / MARGIN)

    def is_cheap(width: float) -> bool:
        if wanted.speedup is None and wanted.size is None:
            return True
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


def narrow(
    trials: Sequence[Trial], shapes: Sequence[Shape], widths: Mapping[int, Sequence[float]], limits: Limits
) -> Shape | None:
    """The next shape that may be better than the best so far, with the same layers.

    Where the score may drop and the best is inside the limits: half-way, in the order of the widths, between it and the first
    narrower one that was tried, whose score was not good enough. Where a shape that was to be cheap enough was not, when
    measured again, but its score is good enough: the next narrower one.

    shapes: those that were timed as cheap enough.
    RETURNS: None where nothing is to be gained.
    """
    start = find_best(trials, limits)
    is_inside = start is not None
    if is_inside and limits.max_drop is None:
        return None
    if start is None:
        missed = [trial for trial in trials if trial.shape in shapes and limits.allow_drop(trial.drop)]
        start = find_cheapest(missed, limits)
    if start is None:
        return None
    layers, tried = start.shape.layers, {trial.shape for trial in trials}
    narrower = [Shape(layers, width) for width in widths[layers] if width < start.shape.compute]
    between = list(takewhile(lambda shape: shape not in tried, narrower))
    if not between:
        return None
    return between[(len(between) - 1) // 2 if is_inside else 0]
