"""`report.html`: one file that needs no other, without a script. The template and the style sheet are in `templates`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from spacy_distil.evaluation.charts import HEIGHT, Bar, Curves, Point, Scatter, make_curves, make_scatter
from spacy_distil.evaluation.comparison import OVERALL, Comparison, Entry, Score
from spacy_distil.evaluation.tables import cost_rows, device, megabytes, percent
from spacy_distil.evaluation.views import Drawing, draw

SERIES = 6  # colours of students, after which they begin anew
DRAWN = 3  # texts that are shown of each component and kind of student
MOST_BARS = 20  # labels of a score that are shown at once; the rarer ones unfold


@dataclass(frozen=True)
class LabelBars:
    """A label, how often the corpus has it, and the score of each entry, None where it has none."""

    label: str
    support: int
    scores: list[Score | None]


def to_html(comparison: Comparison, machine: Mapping[str, Any], title: str) -> str:
    """The page. All texts and labels are escaped."""
    return (
        make_environment()
        .get_template("report.html.jinja")
        .render(
            title=title,
            comparison=comparison,
            machine=machine,
            device=device(machine),
            height=HEIGHT,
            headlines={student.name: make_headlines(student, comparison) for student in comparison.students},
            costs=cost_rows(comparison),
            scatters=make_scatters(comparison),
            labels=make_label_bars(comparison),
            curves=make_training_curves(comparison),
            drawings=make_drawings(comparison),
            most_bars=MOST_BARS,
        )
    )


def make_environment() -> Environment:
    """Of the templates, which get all they show by name."""
    environment = Environment(
        loader=PackageLoader("spacy_distil.evaluation"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(percent=percent, series=series)
    return environment


def series(number: int) -> str:
    """The class that gives an entry its colour: 0 is the teacher."""
    return f"series-{(number - 1) % SERIES + 1 if number else 0}"


def make_headlines(student: Entry, comparison: Comparison) -> list[tuple[str, str, str]]:
    """What is most asked: name, figure, and what it says."""
    teacher = comparison.teacher.cost
    lines: list[tuple[str, str, str]] = []
    shared = [(f"{name} kept", student.scores[name]) for name in comparison.weights if name in student.scores]
    what, kept = ("score kept", student.overall) if student.overall else next(iter(shared), ("", None))
    if kept is not None and kept.kept is not None:
        between = f"{kept.kept_interval[0]:.1f} to {kept.kept_interval[1]:.1f}" if kept.kept_interval else ""
        lines.append((what, f"{kept.kept:.1f} %", between))
    elif student.agreement:
        shares = [agreed.statements.mean for agreed in student.agreement.values()]
        lines.append(("agreement", f"{percent(sum(shares) / len(shares))} %", "mean over components"))
    cost, speed = student.cost, student.cost.words_per_second
    lines.append(("speed", f"{speed / teacher.words_per_second:.2f}x", f"{speed:,.0f} words/s"))
    lines.append(("size on disk", f"{cost.disk / teacher.disk:.2f}x", f"{cost.disk / 1e6:.1f} MB"))
    if cost.memory and teacher.memory:
        lines.append(("peak memory", f"{cost.memory / teacher.memory:.2f}x", megabytes(cost.memory)))
    return lines


def make_scatters(comparison: Comparison) -> dict[str, Scatter]:
    """Accuracy against words per second: overall and of each score, or, where the corpus has no annotation, agreement."""
    names = [*([OVERALL] if len(comparison.weights) > 1 else []), *((name,) for name in comparison.weights)]
    found = {path[0]: [entry.figures.get(path) for entry in comparison.entries] for path in names}
    if not found:
        for name in comparison.components:
            found[f"agreement: {name}"] = [Score([1.0]), *(student.agreed(name) for student in comparison.students)]
    charts: dict[str, Scatter] = {}
    for name, scores in found.items():
        points = [
            Point(entry.name, number, _speed(entry), _bar(score))
            for number, (entry, score) in enumerate(zip(comparison.entries, scores, strict=True))
            if score is not None
        ]
        charts[name] = make_scatter(points, most=100)
    return charts


def _bar(score: Score) -> Bar:
    low, high = score.interval or (score.mean, score.mean)
    return 100 * score.mean, 100 * low, 100 * high


def _speed(entry: Entry) -> Bar:
    return entry.cost.words_per_second, min(entry.cost.speeds), max(entry.cost.speeds)


def make_label_bars(comparison: Comparison) -> dict[str, list[LabelBars]]:
    return {
        name: [
            LabelBars(path[1], comparison.support[path], [entry.figures.get(path) for entry in comparison.entries])
            for path in paths
        ]
        for name, paths in comparison.labels.items()
    }


def make_drawings(comparison: Comparison) -> dict[str, list[list[Drawing]]]:
    """By component in which some student disagrees, and then by kind of student: the texts on which it does most."""
    found = {
        name: [
            [draw(one, key=f"view-{i}-{j}-{k}") for k, one in enumerate(student.disagreements.get(name, [])[:DRAWN])]
            for j, student in enumerate(comparison.students)
        ]
        for i, name in enumerate(comparison.components)
    }
    return {name: kinds for name, kinds in found.items() if any(kinds)}


def make_training_curves(comparison: Comparison) -> dict[str, Curves]:
    """Of the runs that have a log: the weighted score, each score that is compared, and the loss, against the step."""
    logs = [(number, log) for number, entry in enumerate(comparison.entries) for log in entry.logs if log.steps]
    if not logs:
        return {}
    curves = {"weighted score": [(number, log.steps, _percent(log.score)) for number, log in logs]}
    for name in comparison.weights:
        lines = [(number, log.steps, _percent(log.scores[name])) for number, log in logs if name in log.scores]
        if lines:
            curves[name] = lines
    charts = {name: make_curves(lines) for name, lines in curves.items()}
    losses = [
        (number, log.steps, [sum(step) for step in zip(*log.losses.values(), strict=True)])
        for number, log in logs
        if log.losses
    ]
    return {**charts, "loss": make_curves(losses, logarithmic=True)} if losses else charts


def _percent(values: Sequence[float]) -> list[float]:
    return [100 * value for value in values]
