"""Trials made up by hand, and a workshop whose costs and scores are formulas."""

from __future__ import annotations

from spacy_distil.compression.search.shapes import Shape
from spacy_distil.compression.search.trial import Cost, Trial

LAYERS, SCORE = 6, 0.9


def make_trial(
    name: str = "3-layers",
    *,
    shape: Shape | None = None,
    speedup: float = 2.0,
    disk: int = 40_000_000,
    drop: float = 1.0,
) -> Trial:
    return Trial(
        name=name,
        folder=f"trials/{name}/model",
        made_from="trials/word-pieces/model",
        shape=shape or Shape(3),
        precision="auto",
        cost=Cost(parameters=10_000_000, disk=disk, words_per_second=1000 * speedup, speedup=speedup, latency=0.004),
        score=SCORE - drop / 100,
        drop=drop,
        scores={"cats_macro_f": SCORE - drop / 100},
    )


WHOLE = make_trial("whole", shape=Shape(LAYERS), speedup=1.0, disk=90_000_000, drop=0.0)


class FormulaTries:
    """Speed is in inverse proportion to the multiply-adds, and half as much again in int8. The score drops by two points times
    what is lost over what is left of them, by `flat` for each layer that is lost, and by a tenth of a point for rounding.

    trained: the shapes that were trained, in order. measured: those that were timed. least: the smallest share of compute.
    """

    depth = LAYERS

    def __init__(self, *, flat: float = 0.0, slower: float = 1.0, least: float = 0.0) -> None:
        """slower: what the speed of a trained shape is, in multiples of what was timed."""
        self.flat, self.slower, self.least = flat, slower, least
        self.trained: list[Shape] = []
        self.measured: list[Shape] = []

    def can_make(self, shape: Shape) -> bool:
        return shape.compute >= self.least

    def measure_shape(self, shape: Shape) -> list[Cost]:
        self.measured.append(shape)
        return [self._cost(shape, int8) for int8 in (False, True)]

    def try_shape(self, shape: Shape) -> list[Trial]:
        trials = [] if shape.compute == 1 else self.try_shape(shape.whole_layers)
        if shape not in self.trained and shape != Shape(self.depth):
            self.trained.append(shape)
        for int8 in (False, True):
            if shape == Shape(self.depth) and not int8:
                continue
            cost = self._cost(shape, int8)
            trials.append(
                make_trial(
                    shape.name + ("-int8" if int8 else ""),
                    shape=shape,
                    speedup=self.slower * cost.speedup,
                    disk=cost.disk,
                    drop=self.drop(shape) + (0.1 if int8 else 0.0),
                )
            )
        return trials

    def drop(self, shape: Shape) -> float:
        share = shape.layers / self.depth * shape.compute
        return round(2 * (1 / share - 1) + self.flat * (self.depth - shape.layers), 6)

    def _cost(self, shape: Shape, int8: bool) -> Cost:
        share = shape.layers / self.depth * shape.compute
        disk = int((20 + 60 * share) * 1e6) // (4 if int8 else 1)
        speedup = (1.5 if int8 else 1.0) / share
        return Cost(parameters=1, disk=disk, words_per_second=speedup, speedup=speedup, latency=1.0)
