"""What came of a search: `report.md`, `report.html` and `report.json` with all trials, and `pareto.png`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spacy_distil.compression.search.plot import write_plot
from spacy_distil.compression.search.settings import Limits
from spacy_distil.compression.search.trial import Trial, find_best, find_front, find_nearest
from spacy_distil.drafts import new_file, write_json
from spacy_distil.evaluation.charts import HEIGHT, Bar, Point, Scatter, make_scatter
from spacy_distil.evaluation.machine import describe_machine
from spacy_distil.evaluation.page import make_environment
from spacy_distil.evaluation.tables import Table, device, markdown_table

HEADER = ["", "layers", "compute", "precision", "parameters", "disk", "words per second", "latency", "score", "drop"]


@dataclass(frozen=True)
class Outcome:
    """All trials of a search, the whole pipeline first, and what they come to.

    recipe: the name of the trial that was to be made, where there was no search.
    """

    trials: Sequence[Trial]
    limits: Limits
    recipe: str | None = None

    @property
    def whole(self) -> Trial:
        return self.trials[0]

    @property
    def chosen(self) -> Trial | None:
        """The best inside the limits; that of the recipe, where there are none."""
        if self.limits.are_open:
            return next((trial for trial in self.trials[1:] if trial.name == self.recipe), None)
        return find_best(self.trials[1:], self.limits)

    @property
    def nearest(self) -> list[Trial]:
        """Where none is inside the limits, those that miss least."""
        return find_nearest(self.trials[1:], self.limits)

    @property
    def front(self) -> list[Trial]:
        """By speed or by size, whichever is wanted."""
        return find_front(self.trials, small=self.limits.wants_small)


def write_report(outcome: Outcome, folder: Path, *, title: str, plot: bool = True) -> None:
    """plot: write the picture too, which needs matplotlib."""
    machine = describe_machine()
    texts = {"report.md": to_markdown(outcome, machine, title), "report.html": to_html(outcome, machine, title)}
    for name, text in texts.items():
        with new_file(folder / name) as draft:
            draft.write_text(text, encoding="utf8")
    write_json(folder / "report.json", to_dict(outcome, machine))
    picture = folder / "pareto.png"
    if plot:
        write_plot(outcome.trials, outcome.limits, outcome.chosen, picture)
    else:
        picture.unlink(missing_ok=True)  # an earlier run's


def make_table(outcome: Outcome) -> Table:
    """A row for each trial, the slowest (or largest) first; `*` marks the chosen one, `+` the others of the Pareto front."""
    front, chosen = outcome.front, outcome.chosen
    order = sorted(
        outcome.trials[1:], key=lambda trial: -trial.cost.disk if outcome.limits.wants_small else trial.cost.speedup
    )
    rows = [HEADER]
    for trial in (outcome.whole, *order):
        mark = " *" if trial is chosen else " +" if trial in front else ""
        rows.append([trial.name + mark, *_cells(trial)])
    return rows


def _cells(trial: Trial) -> list[str]:
    cost = trial.cost
    return [
        str(trial.shape.layers),
        f"{100 * trial.shape.compute:g} %",
        trial.precision,
        f"{cost.parameters / 1e6:.1f} M",
        f"{cost.disk / 1e6:.1f} MB",
        f"{cost.words_per_second:,.0f} ({cost.speedup:.2f}x)",
        f"{1000 * cost.latency:.1f} ms",
        f"{100 * trial.score:.1f}",
        f"{trial.drop:.1f}",
    ]


def describe_limits(limits: Limits) -> str:
    found = []
    if limits.speedup is not None:
        found.append(f"{limits.speedup:g} times the words per second")
    if limits.size is not None:
        found.append(f"{limits.size / 1e6:g} MB")
    if limits.max_drop is not None:
        found.append(f"{limits.max_drop:g} points of the score")
    return ", ".join(found) or "none"


def describe_outcome(outcome: Outcome) -> str:
    """One sentence, or one for each of the nearest."""
    if outcome.chosen is not None:
        return f"{'Made' if outcome.limits.are_open else 'Inside the limits'}: {describe(outcome.chosen)}."
    if outcome.limits.are_open:
        return f"Pipelines made: {len(outcome.trials) - 1}."
    nearest = "; ".join(map(describe, outcome.nearest)) or "nothing was tried"
    return f"No pipeline is inside the limits. Nearest: {nearest}."


def describe(trial: Trial) -> str:
    cost = trial.cost
    return f"{trial.name}, {cost.speedup:.2f}x the speed, {cost.disk / 1e6:.1f} MB, {trial.drop:.1f} points lost"


def to_markdown(outcome: Outcome, machine: Mapping[str, Any], title: str) -> str:
    cost = "size" if outcome.limits.wants_small else "speed"
    about = f"""Limits: {describe_limits(outcome.limits)}. {describe_outcome(outcome)}

`+`: no other pipeline is better in both score and {cost}; `*`: the one that was chosen."""
    scores = f"The score is the mean of {', '.join(outcome.whole.scores)}, weighted as in training, in percent."
    measured = f"Each pipeline was timed in turn with the whole one on {device(machine)}."
    return "\n\n".join([f"# {title}", about, markdown_table(make_table(outcome)), f"{scores} {measured}"]) + "\n"


def to_dict(outcome: Outcome, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Scores are from 0 to 1, drops in points, sizes in bytes, times in seconds."""
    return {
        "machine": machine,
        "limits": asdict(outcome.limits),
        "chosen": outcome.chosen and outcome.chosen.name,
        "nearest": [trial.name for trial in outcome.nearest] if outcome.chosen is None else [],
        "front": [trial.name for trial in outcome.front],
        "trials": [asdict(trial) for trial in outcome.trials],
    }


def to_html(outcome: Outcome, machine: Mapping[str, Any], title: str) -> str:
    """A page that needs no other file. All names are escaped."""
    return (
        make_environment()
        .get_template("search.html.jinja")
        .render(
            title=title,
            limits=describe_limits(outcome.limits),
            says=describe_outcome(outcome),
            table=make_table(outcome),
            chosen=outcome.chosen,
            charts_of={
                "words per second": make_chart(outcome, small=False),
                "MB on disk": make_chart(outcome, small=True),
            },
            scores=list(outcome.whole.scores),
            height=HEIGHT,
            device=device(machine),
        )
    )


def make_chart(outcome: Outcome, *, small: bool) -> Scatter:
    """Score against speed, or size: the whole pipeline, the front, the others, and the chosen one, each in a colour. Only what
    is on the front or chosen has its name there."""
    front = find_front(outcome.trials, small=small)
    points = []
    for trial in outcome.trials:
        is_chosen = trial is outcome.chosen
        series = 0 if trial is outcome.whole else 2 if is_chosen else 1 if trial in front else 3
        name = trial.name if series < 3 else ""
        x = trial.cost.disk / 1e6 if small else trial.cost.words_per_second
        points.append(Point(name, series, _exactly(x), _exactly(100 * trial.score)))
    return make_scatter(points, most=100)


def _exactly(value: float) -> Bar:
    return value, value, value
