"""The report of a comparison: a table for the screen, `report.md` and `report.json`."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import mean
from typing import Any

import srsly

from spacy_distil.evaluation.compare import Comparison, Entry, deviation, kept, summarize
from spacy_distil.evaluation.machine import describe_machine

Table = list[list[str]]
MISSING = "-"


def make_table(comparison: Comparison) -> Table:
    """A header, a row for each score and each cost; a column for the teacher and one for each kind of student."""
    entries = [comparison.teacher, *comparison.students]
    rows = [["", *(entry.name + _runs(entry) for entry in entries)]]
    rows += [[name, *(_score(entry, comparison.teacher, name) for entry in entries)] for name in comparison.scores]
    rows += [
        ["parameters", *(f"{entry.cost.parameters / 1e6:.1f} M" for entry in entries)],
        ["size on disk", *(f"{entry.cost.disk / 1e6:.1f} MB" for entry in entries)],
        ["words per second", *(_ratio(entry, comparison.teacher, "words_per_second", "{:,.0f}") for entry in entries)],
        ["latency of a text", *(_latency(entry, comparison.teacher) for entry in entries)],
    ]
    return rows


def _runs(entry: Entry) -> str:
    return f" ({len(entry.paths)} runs)" if len(entry.paths) > 1 else ""


def _score(entry: Entry, teacher: Entry, name: str) -> str:
    if name not in entry.scores:
        return MISSING
    values = entry.scores[name]
    spread = deviation(values)
    cell = f"{100 * mean(values):.1f}" + (f" ± {100 * spread:.1f}" if spread is not None else "")
    share = kept(values, teacher.scores[name])
    return cell if entry is teacher or share is None else f"{cell} ({share:.1f} %)"


def _ratio(entry: Entry, teacher: Entry, cost: str, form: str) -> str:
    value, reference = getattr(entry.cost, cost), getattr(teacher.cost, cost)
    cell = form.format(value)
    return cell if entry is teacher else f"{cell} ({value / reference:.2f}x)"


def _latency(entry: Entry, teacher: Entry) -> str:
    cell = f"{1000 * entry.cost.latency:.1f} ms"
    return cell if entry is teacher else f"{cell} ({entry.cost.latency / teacher.cost.latency:.2f}x)"


def to_markdown(comparison: Comparison, title: str) -> str:
    header, *rows = make_table(comparison)
    lines = [header, ["---"] * len(header), *rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    students = [entry for entry in comparison.students if len(entry.paths) > 1]
    spread = " ± is the standard deviation over the runs; costs are the first run's." if students else ""
    return f"""# {title}

On `{comparison.corpus}`: {comparison.docs:,} texts, {comparison.words:,} words. Scores in percent; in brackets what a student
keeps of the teacher's score, and its speed in multiples of the teacher's.{spread}

{table}

Measured in turn, in one run, on {_machine(describe_machine())}.
"""


def _machine(facts: dict[str, Any]) -> str:
    device = facts["gpu"] or f"{facts['processor']}, {facts['threads']} threads"
    return f"{device}, {facts['auto']}"


def to_dict(comparison: Comparison) -> dict[str, Any]:
    """The whole comparison. Scores are from 0 to 1, `kept` in percent, sizes in bytes, times in seconds."""
    return {
        "corpus": {"path": comparison.corpus, "docs": comparison.docs, "words": comparison.words},
        "machine": describe_machine(),
        "teacher": _entry(comparison.teacher, comparison),
        "students": [_entry(student, comparison) for student in comparison.students],
    }


def _entry(entry: Entry, comparison: Comparison) -> dict[str, Any]:
    return {
        "name": entry.name,
        "paths": entry.paths,
        "scores": summarize(entry, comparison.teacher, comparison.scores),
        "parameters": entry.cost.parameters,
        "disk": entry.cost.disk,
        "words_per_second": entry.cost.words_per_second,
        "latency": entry.cost.latency,
    }


def write_report(comparison: Comparison, folder: Path, *, title: str) -> list[Path]:
    """Write `report.md` and `report.json`: beside, then renamed, so that each is whole or as it was."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "report.md": to_markdown(comparison, title),
        "report.json": srsly.json_dumps(to_dict(comparison), indent=2) + "\n",
    }
    return _write_all({folder / name: text for name, text in texts.items()})


def _write_all(texts: dict[Path, str]) -> list[Path]:
    drafts = {path: path.with_name(f".{path.name}.draft") for path in texts}
    try:
        for path, text in texts.items():
            drafts[path].write_text(text, encoding="utf8")
        for path, draft in drafts.items():
            os.replace(draft, path)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
    return list(texts)
