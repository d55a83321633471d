"""The log that `distil train` leaves beside a pipeline: how its scores and losses came about."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import srsly

from spacy_distil.evaluation.sources import CHECKPOINTS, CompareError

LOG = "log.jsonl"


@dataclass(frozen=True)
class TrainingLog:
    """What was logged at each evaluation, in order. NaN stands for what was no number.

    score: the weighted score.
    scores: by name.
    losses: by component, each the sum since the evaluation before.
    """

    steps: list[int]
    score: list[float]
    scores: dict[str, list[float]]
    losses: dict[str, list[float]]


def read_log(pipeline: str) -> TrainingLog | None:
    """The log of the run that wrote a pipeline; None where it left none, as `spacy train` leaves none.

    pipeline: the run's `model-best` or `model-last`.
    Raises CompareError for a log that is damaged.
    """
    path = Path(pipeline).parent / LOG
    if Path(pipeline).name not in CHECKPOINTS or not path.exists():
        return None
    try:
        records = list(srsly.read_jsonl(path))
        return TrainingLog(
            steps=[int(record["step"]) for record in records],
            score=[_number(record["score"]) for record in records],
            scores=_by_name([record["scores"] for record in records]),
            losses=_by_name([record["losses"] for record in records]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CompareError(f"The training log {str(path)!r} can't be read: {error!r}. Mend it or remove it.") from error


def _by_name(records: list[dict[str, Any]]) -> dict[str, list[float]]:
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [_number(record.get(name)) for record in records] for name in names}


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
