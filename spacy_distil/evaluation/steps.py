"""What a step of distillation costs, beside a plain step of the same student."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from spacy.language import Language
from spacy.schemas import ConfigSchemaTraining
from spacy.training import Example
from spacy.training.loop import create_train_batches
from spacy.util import registry, resolve_dot_names
from thinc.api import Optimizer

from spacy_distil.distillation.agreement import stock_method
from spacy_distil.distillation.answers import AnswerStore
from spacy_distil.distillation.teacher import Teacher
from spacy_distil.distillation.update import DistillationUpdate
from spacy_distil.evaluation.measure import time_call

MOST_BYTES = 1 << 34


@dataclass(frozen=True)
class StepCosts:
    """Seconds of a step, the median over batches, each the same for all.

    plain: spaCy's own update, and the optimiser's step.
    teacher: the teacher alone, asked for all that the step needs.
    distilled: with the teacher, no cache.
    warm: with the teacher's answers in the cache.
    """

    plain: float
    teacher: float
    distilled: float
    warm: float


def measure_steps(student: Language, *, steps: int, progress: Callable[[str], None] = print) -> StepCosts:
    """Time the steps of a student to which a teacher is attached, each kind in turn on each batch.

    student: initialised; it is trained meanwhile.
    """
    update: DistillationUpdate = student.update  # type: ignore[assignment]
    optimizer, batches = _read(student, steps)
    plain_update = stock_method(student, "update")
    times: dict[str, list[float]] = {"plain": [], "teacher": [], "distilled": [], "warm": []}
    with TemporaryDirectory() as folder:
        cold = _with_store(update, None)
        warm = _with_store(update, AnswerStore(Path(folder), max_bytes=MOST_BYTES))
        for batch in batches:
            warm.ask_all(batch)
        for number, batch in enumerate([batches[0], *batches]):  # the first warms up
            progress(f"Batch {number} of {len(batches)}")
            for name, step in (
                ("plain", lambda batch: plain_update(batch, sgd=optimizer)),
                ("teacher", cold.ask_all),
                ("distilled", lambda batch: cold(batch, sgd=optimizer)),
                ("warm", lambda batch: warm(batch, sgd=optimizer)),
            ):
                seconds = time_call(lambda step=step, batch=batch: step(batch))  # type: ignore[misc]
                if number:
                    times[name].append(seconds)
    return StepCosts(**{name: median(values) for name, values in times.items()})


def _read(student: Language, steps: int) -> tuple[Optimizer, list[list[Example]]]:
    config = student.config.interpolate()
    training = registry.resolve(config["training"], schema=ConfigSchemaTraining)
    (corpus,) = resolve_dot_names(config, [training["train_corpus"]])
    batches = create_train_batches(student, corpus, training["batcher"], training["max_epochs"])
    return training["optimizer"], [list(batch) for _, batch in islice(batches, steps)]


def _with_store(update: DistillationUpdate, store: AnswerStore | None) -> DistillationUpdate:
    """The same update with another cache than its own, or none."""
    teachers = [Teacher(teacher.nlp, teacher.components, store, teacher.encoder) for teacher in update.teachers]
    return DistillationUpdate(update.nlp, teachers, update.taught, update.settings, update.hidden, update.states)
