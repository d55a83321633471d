"""The tables of a comparison, for the screen and for `report.md`: a column for the teacher and one for each kind of student."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spacy_distil.evaluation.bootstrap import Interval
from spacy_distil.evaluation.comparison import Comparison, Entry, Score

Table = list[list[str]]
MISSING = "-"


def make_table(comparison: Comparison, *, intervals: bool) -> Table:
    """A header; a row for each score that is compared, each component in which students can agree, and each cost."""
    rows = [["", *(entry.name + _runs(entry) for entry in comparison.entries)]]
    for name in comparison.weights:
        rows.append([name, *(score_cell(entry.scores.get(name), intervals) for entry in comparison.entries)])
    if len(comparison.weights) > 1:
        rows.append(["overall", *(score_cell(entry.overall, intervals) for entry in comparison.entries)])
    for name, unit in comparison.components.items():
        cells = [score_cell(student.agreed(name), intervals) for student in comparison.students]
        rows.append([f"agreement: {name} ({unit})", MISSING, *cells])
    return rows + cost_rows(comparison)


def make_label_tables(comparison: Comparison, *, intervals: bool) -> dict[str, Table]:
    """For each score by label, such as `ents_per_type`: a header, and a row for each label, the most frequent first."""
    tables: dict[str, Table] = {}
    for name, paths in comparison.labels.items():
        header = ["", "in the corpus", *(entry.name for entry in comparison.entries)]
        tables[name] = [header]
        for path in paths:
            cells = [score_cell(entry.figures.get(path), intervals) for entry in comparison.entries]
            tables[name].append([path[1], f"{comparison.support[path]:,}", *cells])
    return tables


def cost_rows(comparison: Comparison) -> Table:
    entries = comparison.entries
    teacher = comparison.teacher.cost
    rows = [
        ["parameters", *(f"{entry.cost.parameters / 1e6:.1f} M" for entry in entries)],
        ["size on disk", *(f"{entry.cost.disk / 1e6:.1f} MB" for entry in entries)],
        ["words per second", *_with_ratios([entry.cost.words_per_second for entry in entries], _words)],
        ["latency of a text", *_with_ratios([entry.cost.latency for entry in entries], _milliseconds)],
        ["peak memory above the model's", *_with_ratios([entry.cost.memory for entry in entries], megabytes)],
    ]
    if teacher.encoder_speed is not None:
        speeds = [entry.cost.encoder_speed for entry in entries]
        rows.insert(3, ["words per second, encoder alone", *_with_ratios(speeds, _words)])
    return rows


def _with_ratios(values: Sequence[float | None], written: Callable[[Any], str]) -> list[str]:
    """The teacher's value, and each student's with its multiple of the teacher's."""
    first, *others = values
    return [
        written(first),
        *(written(value) + (f" ({value / first:.2f}x)" if value and first else "") for value in others),
    ]


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


def _words(speed: float | None) -> str:
    return MISSING if speed is None else f"{speed:,.0f}"


def _runs(entry: Entry) -> str:
    return f" ({len(entry.paths)} runs)" if len(entry.paths) > 1 else ""


def score_cell(score: Score | None, intervals: bool) -> str:
    """`70.0 ± 10.0 (87.5 %)`, or with intervals `70.0 ± 10.0 [62.1, 77.3] (87.5 % [80.0, 95.1])`."""
    if score is None:
        return MISSING
    cell = percent(score.mean)
    if score.deviation is not None:
        cell += f" ± {percent(score.deviation)}"
    if intervals and score.interval:
        cell += f" {brackets(score.interval, 100)}"
    if score.kept is not None:
        kept = f"{score.kept:.1f} %"
        if intervals and score.kept_interval:
            kept += f" {brackets(score.kept_interval)}"
        cell += f" ({kept})"
    return cell


def markdown_table(table: Table) -> str:
    header, *rows = ([cell.replace("|", "\\|").replace("<", "&lt;") for cell in row] for row in table)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def device(machine: Mapping[str, Any]) -> str:
    """What `machine.describe_machine` found, in a few words."""
    name = machine["gpu"] or f"{machine['processor']}, {machine['threads']} threads"
    return f"{name}, {machine['auto']}"


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def brackets(interval: Interval, times: int = 1) -> str:
    return f"[{times * interval[0]:.1f}, {times * interval[1]:.1f}]"


def megabytes(value: int | None) -> str:
    return MISSING if value is None else f"{value / 1e6:.0f} MB"
