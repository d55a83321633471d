"""Bootstrap intervals: what figures might have been on other texts of the same kind, and with other runs.

Texts are drawn with replacement, as many as there are, and a figure is computed on each draw; its interval holds the middle
95 % of these values (Efron and Tibshirani 1993, chapter 13). Teacher and students are compared on the same draws, so that
what a text's own difficulty does to both cancels out of the kept share. Of several runs of one kind, each draw takes as many
runs as there are, with replacement, and their mean: the interval covers texts and seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

SEED = 0
RESAMPLES = 1000
LEVEL = 0.95
MOST_WEIGHTS = 100_000_000  # of all resamples together, a byte each
PART = 4_000_000  # weights that are worked on at once
FEWEST = 40  # resamples that an interval needs

Weights = NDArray[Any]  # (resamples, texts): how often each text was drawn
Values = NDArray[np.float64]  # (resamples,): a figure on each draw; NaN where it is not defined
Interval = tuple[float, float]


class Figure(Protocol):
    """A figure that can be computed on any draw of the texts."""

    def on(self, weights: Weights) -> Values:
        """weights: (resamples, texts). RETURNS: (resamples,), NaN where the figure is not defined."""


def draw_texts(n_texts: int, n_resamples: int = RESAMPLES) -> Weights:
    """How often each draw has each text: (1 + resamples, texts). The first row is no draw, but the corpus as it is.

    There are fewer resamples where the corpus is so large that they would not fit into memory.
    """
    n_resamples = max(FEWEST, min(n_resamples, MOST_WEIGHTS // n_texts))
    rng = np.random.default_rng(SEED)
    weights = np.ones((1 + n_resamples, n_texts), dtype="uint8")
    for row in weights[1:]:
        row[:] = np.bincount(rng.integers(n_texts, size=n_texts), minlength=n_texts)
    return weights


def draw_runs(n_runs: int, n_resamples: int) -> Weights:
    """The share of each run in each draw: (1 + resamples, runs). In the first row each has the same."""
    rng = np.random.default_rng(SEED)
    shares = rng.multinomial(n_runs, [1 / n_runs] * n_runs, size=1 + n_resamples) / n_runs
    shares[0] = 1 / n_runs
    return shares


def resample(figure: Figure, weights: Weights) -> Values:
    """A figure on the corpus and on each draw: (1 + resamples,)."""
    n_parts = -(-weights.size // PART)
    return np.concatenate([figure.on(part) for part in np.array_split(weights, n_parts)])


def combine(runs: Sequence[Values]) -> Values:
    """The mean of several runs, on the corpus and on each draw: (1 + resamples,)."""
    values = np.stack(runs, axis=1)
    return (values * draw_runs(values.shape[1], len(values) - 1)).sum(axis=1)


def interval(values: Values) -> Interval | None:
    """The middle 95 % of the draws on which a figure is defined; None where these are too few.

    values: (1 + resamples,), the first that of the corpus.
    """
    draws = values[1:][np.isfinite(values[1:])]
    if len(draws) < FEWEST:
        return None
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def share(students: Values, teachers: Values) -> Values:
    """The student's figure in percent of the teacher's on each draw; NaN where the teacher has nothing to keep."""
    return 100 * students / np.where(teachers > 0, teachers, np.nan)
