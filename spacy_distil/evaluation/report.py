"""The reports of a comparison: `report.md` for reading, `report.html` for looking, `report.json` with everything."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spacy_distil.evaluation import bootstrap
from spacy_distil.evaluation.comparison import Comparison, Entry, Score
from spacy_distil.evaluation.disagreements import Disagreement
from spacy_distil.evaluation.machine import describe_machine
from spacy_distil.evaluation.page import to_html
from spacy_distil.evaluation.tables import device, make_label_tables, make_table, markdown_table


def write_report(comparison: Comparison, folder: Path, *, title: str) -> list[Path]:
    """Write all three: beside, then renamed, so that each is whole or as it was."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = describe_machine()
    texts = {
        "report.md": to_markdown(comparison, machine, title),
        "report.html": to_html(comparison, machine, title),
        "report.json": json.dumps(to_dict(comparison, machine), ensure_ascii=False, indent=2) + "\n",
    }
    return _write_all({folder / name: text for name, text in texts.items()})


def to_markdown(comparison: Comparison, machine: dict[str, Any], title: str) -> str:
    spread = ""
    if any(len(entry.paths) > 1 for entry in comparison.students):
        spread = """
± is the standard deviation over the runs, of which each draw takes as many as there are, with replacement, and their mean;
costs are the first run's."""
    about = f"""On `{comparison.corpus}`: {comparison.docs:,} texts, {comparison.words:,} words. Scores in percent; in round
brackets what a student keeps of the teacher's score, and its costs in multiples of the teacher's; in square brackets 95 %
bootstrap intervals ({comparison.resamples:,} draws of the texts, the same for teacher and student).{spread}"""
    measured = f"Measured in turn, in one run, on {device(machine)}."
    sections = [f"# {title}", about, markdown_table(make_table(comparison, intervals=True)), measured]
    for name, table in make_label_tables(comparison, intervals=True).items():
        sections += [f"## {name}", markdown_table(table)]
    return "\n\n".join(sections) + "\n"


def to_dict(comparison: Comparison, machine: dict[str, Any]) -> dict[str, Any]:
    """The whole comparison. Scores are from 0 to 1, `kept` in percent, sizes and memory in bytes, times in seconds."""
    return {
        "corpus": {"path": comparison.corpus, "docs": comparison.docs, "words": comparison.words},
        "machine": machine,
        "intervals": {"level": bootstrap.LEVEL, "resamples": comparison.resamples, "seed": bootstrap.SEED},
        "weights": comparison.weights,
        "teacher": _entry(comparison.teacher, comparison),
        "students": [_entry(student, comparison) for student in comparison.students],
    }


def _entry(entry: Entry, comparison: Comparison) -> dict[str, Any]:
    labels: dict[str, dict[str, dict[str, Any]]] = {}
    for path, score in entry.figures.items():
        if len(path) > 1:
            label = labels.setdefault(path[0], {}).setdefault(path[1], {"support": comparison.support.get(path, 0)})
            label[path[2] if len(path) > 2 else "auc"] = _score(score)
    return {
        "name": entry.name,
        "paths": entry.paths,
        "overall": _score(entry.overall) if entry.overall else None,
        "scores": {name: _score(score) for name, score in entry.scores.items()},
        "labels": labels,
        "agreement": {
            name: {"unit": agreed.unit, "statements": _score(agreed.statements), "texts": _score(agreed.texts)}
            for name, agreed in entry.agreement.items()
        },
        "parameters": entry.cost.parameters,
        "disk": entry.cost.disk,
        "words_per_second": entry.cost.words_per_second,
        "words_per_second_by_round": entry.cost.speeds,
        "encoder_words_per_second": entry.cost.encoder_speed,
        "latency": entry.cost.latency,
        "peak_memory": entry.cost.memory,
        "disagreements": {name: [_disagreement(one) for one in found] for name, found in entry.disagreements.items()},
        "training": [_no_nan(asdict(log)) for log in entry.logs],
    }


def _score(score: Score) -> dict[str, Any]:
    return {
        "runs": score.runs,
        "mean": score.mean,
        "deviation": score.deviation,
        "interval": score.interval,
        "kept": score.kept,
        "kept_interval": score.kept_interval,
        "draws": score.draws,
    }


def _disagreement(found: Disagreement) -> dict[str, Any]:
    """Of parses and the like, which say something of every token, only that on which teacher and student differ."""
    sides = {name: set(side.statements) for name, side in found.sides.items()}
    places = {(start, end) for start, end, _ in sides["teacher"] ^ sides["student"]}
    return {
        "index": found.index,
        "size": found.size,
        "distance": found.distance,
        "text": found.text,
        "is_part": found.is_part,
        "differences": {
            name: [statement for statement in side.statements if statement[:2] in places]
            for name, side in found.sides.items()
        },
        "scores": {name: side.scores for name, side in found.sides.items() if side.scores},
    }


def _no_nan(value: Any) -> Any:
    """None for what JSON can't hold."""
    if isinstance(value, dict):
        return {name: _no_nan(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_no_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
