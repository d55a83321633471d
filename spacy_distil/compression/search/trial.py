"""What is known of a pipeline that was tried."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from spacy_distil.compression.search.settings import Limits
from spacy_distil.compression.search.shapes import Shape
from spacy_distil.drafts import write_json

FILE = "trial.json"


@dataclass(frozen=True)
class Cost:
    """parameters: their number. disk: bytes. words_per_second: of the whole pipeline's texts, in turn with it. speedup: in
    multiples of the whole pipeline's. latency: seconds of one text."""

    parameters: int
    disk: int
    words_per_second: float
    speedup: float
    latency: float


@dataclass(frozen=True)
class Trial:
    """A pipeline that was made, measured and scored.

    folder: where it is. made_from: the folder of the one before it, to which this step can be undone.
    score: weighted as in training, from 0 to 1. drop: points of it below the whole pipeline's.
    scores: those with a weight.
    """

    name: str
    folder: str
    made_from: str | None
    shape: Shape
    precision: str
    cost: Cost
    score: float
    drop: float
    scores: Mapping[str, float]

    def write(self, path: Path) -> None:
        """Folders inside the search's own are written so that it may be moved."""
        out = path.parents[2].resolve()
        about = asdict(self)
        for name in ("folder", "made_from"):
            if about[name] is not None:
                place = Path(about[name]).resolve()
                about[name] = str(place.relative_to(out) if place.is_relative_to(out) else place)
        write_json(path, about)

    @classmethod
    def read(cls, path: Path) -> Trial:
        """path: `trials/NAME/trial.json` in the folder of a search."""
        about = json.loads(path.read_text(encoding="utf8"))
        for name in ("folder", "made_from"):
            if about[name] is not None:
                about[name] = str(path.parents[2] / about[name])
        return cls(**{**about, "shape": Shape(**about["shape"]), "cost": Cost(**about["cost"])})

    def is_inside(self, limits: Limits) -> bool:
        return limits.allow_cost(self.cost.speedup, self.cost.disk) and limits.allow_drop(self.drop)


def find_best(trials: Iterable[Trial], limits: Limits) -> Trial | None:
    """The fastest inside the limits, or the smallest where only a size is asked for; None where there is none.

    Without a limit for the score that is the one with the best score.
    """
    inside = [trial for trial in trials if trial.is_inside(limits)]
    if limits.max_drop is None:
        return max(inside, key=lambda trial: (trial.score, trial.cost.speedup), default=None)
    return find_cheapest(inside, limits)


def find_cheapest(trials: Iterable[Trial], limits: Limits) -> Trial | None:
    """The fastest, or the smallest where only a size is asked for, inside the limits or not; the better one of equals."""
    if limits.wants_small:
        return min(trials, key=lambda trial: (trial.cost.disk, -trial.score), default=None)
    return max(trials, key=lambda trial: (trial.cost.speedup, trial.score), default=None)


def find_nearest(trials: Sequence[Trial], limits: Limits) -> list[Trial]:
    """Where none is inside all limits: the one with the best score that costs little enough, and the fastest, or smallest,
    whose score is good enough."""
    cheap = find_best(trials, replace(limits, max_drop=None))
    good = None
    if limits.max_drop is not None:
        good = find_cheapest([trial for trial in trials if limits.allow_drop(trial.drop)], limits)
    nearest = (cheap, good) if cheap or good else (find_cheapest(trials, limits),)
    return [trial for trial in nearest if trial is not None]


def find_front(trials: Iterable[Trial], *, small: bool = False) -> list[Trial]:
    """The trials that no other one beats in score and in speed (small: in size), slowest (largest) first."""

    def gain(trial: Trial) -> float:
        return -trial.cost.disk if small else trial.cost.speedup

    front: list[Trial] = []
    for trial in sorted(trials, key=lambda trial: (gain(trial), trial.score), reverse=True):
        if not front or trial.score > front[-1].score:
            front.append(trial)
    return front[::-1]
