"""The trials of a search as a picture: what is lost for what is gained, with matplotlib (the extra `plot`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.search.settings import Limits
from spacy_distil.compression.search.trial import Trial, find_front
from spacy_distil.drafts import new_file

FRONT, OTHERS, LIMIT, CHOSEN = "#1c7ed6", "#9aa4ae", "#c2255c", "#e8590c"
SIZE = (11.0, 4.6)  # inches
DOTS = 150  # an inch


def import_pyplot() -> Any:
    """RAISES: CompressionError where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise CompressionError(
            "The picture of the trials needs matplotlib: pip install 'spacy-distil[plot]', or leave it out by --no-plot."
        ) from None
    matplotlib.use("Agg")  # no screen is needed
    from matplotlib import pyplot

    return pyplot


def write_plot(trials: Sequence[Trial], limits: Limits, chosen: Trial | None, path: Path) -> None:
    """Two panels: score against speed-up, and against size, with the Pareto front of each and the limits as lines.

    trials: the whole pipeline first.
    """
    pyplot = import_pyplot()
    figure, (speed, size) = pyplot.subplots(1, 2, figsize=SIZE, sharey=True, layout="constrained")
    _draw(speed, trials, chosen, find_front(trials), lambda trial: trial.cost.speedup)
    _draw(size, trials, chosen, find_front(trials, small=True), lambda trial: trial.cost.disk / 1e6)
    for axes, limit in ((speed, limits.speedup), (size, limits.size and limits.size / 1e6)):
        if limit:
            axes.axvline(limit, color=LIMIT, linestyle="--", linewidth=1)
        if limits.max_drop is not None:
            axes.axhline(100 * trials[0].score - limits.max_drop, color=LIMIT, linestyle="--", linewidth=1)
        axes.margins(x=0.12, y=0.1)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    speed.set(xlabel="times the words per second of the whole pipeline", ylabel="score, percent")
    size.set(xlabel="size on disk, MB")
    with new_file(path) as draft:
        figure.savefig(draft, dpi=DOTS, format="png")
    pyplot.close(figure)


def _draw(
    axes: Any, trials: Sequence[Trial], chosen: Trial | None, front: Sequence[Trial], cost: Callable[[Trial], float]
) -> None:
    axes.plot([cost(trial) for trial in front], [100 * trial.score for trial in front], color=FRONT, linewidth=1.2)
    costs = [cost(trial) for trial in trials]
    middle = (min(costs) + max(costs)) / 2
    for trial in trials:
        place = (cost(trial), 100 * trial.score)
        colour = CHOSEN if trial is chosen else FRONT if trial in front else OTHERS
        axes.scatter(*place, color=colour, s=36, zorder=3)
        if trial in front or trial is chosen:
            is_left = place[0] > middle
            offset, side = ((-7, 5), "right") if is_left else ((7, 5), "left")
            axes.annotate(trial.name, place, offset, textcoords="offset points", ha=side, fontsize=8, color=colour)
