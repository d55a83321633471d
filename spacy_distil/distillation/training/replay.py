"""Going through the steps of a run again without their work, up to its checkpoint.

spaCy's loop draws the same batches in the same order and steps the schedules, but updates do nothing and evaluations give what
they gave. So patience, best score and the rest of the corpus are those of the unbroken run. What is left for the
checkpoint to bring back are weights, the optimiser's state and the random states of training.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy
from spacy.language import Language
from spacy.training import Example

from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.training.output import Record
from spacy_distil.distillation.training.randomness import RandomState

Info = dict[str, Any]
Steps = Iterator[tuple[list[Example], Info, bool | None]]
Evaluate = Callable[[], tuple[float, dict[str, Any]]]


class Batches:
    """The batches of a run. They are drawn with random states of their own, so that they can be drawn again without what
    happens between them: their order depends on the seed alone.

    step: the number of the batch drawn last, from 0; -1 before the first. `nlp.update.step` is set to it, where there is one.
    are_over: whether there is no further one.
    """

    def __init__(self, nlp: Language, batches: Iterator[tuple[int, list[Example]]], state: RandomState) -> None:
        self.step = -1
        self.are_over = False
        self._nlp, self._batches, self._state = nlp, batches, state

    def __iter__(self) -> Iterator[tuple[int, list[Example]]]:
        return self

    def __next__(self) -> tuple[int, list[Example]]:
        others = RandomState.capture()
        self._state.restore()
        try:
            batch = next(self._batches)
        except StopIteration:
            self.are_over = True
            raise
        finally:
            self._state = RandomState.capture()
            others.restore()
        self.step += 1
        if hasattr(self._nlp.update, "step"):
            self._nlp.update.step = self.step
        return batch

    def ended_by(self, training: Mapping[str, Any]) -> str:
        """The limit in [training] that a run of these batches, which has come to its end, ran into."""
        if self.are_over:
            return "max_epochs"
        return "max_steps" if training["max_steps"] and self.step >= training["max_steps"] else "patience"


class Replay:
    """evaluate: how the run evaluates, once it goes on."""

    def __init__(self, nlp: Language, evaluate: Evaluate) -> None:
        self._nlp, self._evaluate = nlp, evaluate
        self._record: Record | None = None

    def evaluate(self) -> tuple[float, dict[str, Any]]:
        if self._record is None:
            return self._evaluate()
        return self._record["score"], self._record["scores"]

    def run(self, steps: Steps, history: Sequence[Record], show: Callable[[Info], None]) -> None:
        """Go through steps to the last evaluation of a history.

        show: gets the information on each evaluation.
        RAISES: DistillationError if the steps are not those of the history.
        """
        own = vars(self._nlp).get("update")
        self._nlp.update = self._learn_nothing  # type: ignore[method-assign,assignment]
        try:
            for self._record in history:
                show(_next_evaluation(steps, self._record))
        finally:
            self._record = None
            del self._nlp.update
            if own is not None:
                self._nlp.update = own  # type: ignore[method-assign]

    def _learn_nothing(self, examples: Any, *, losses: dict[str, float], **_: Any) -> dict[str, float]:
        assert self._record is not None
        losses.update(self._record["losses"])
        return losses


def record_of(info: Info) -> Record:
    """What is kept of an evaluation, as JSON can hold it."""
    kept = {name: info[name] for name in ("step", "epoch", "score", "losses", "words", "seconds")}
    return _plain({**kept, "scores": info["other_scores"]})


def _next_evaluation(steps: Steps, record: Record) -> Info:
    info = next((info for _, info, is_best in steps if is_best is not None), None)
    if info is None:
        raise DistillationError(
            f"The run would end before step {record['step']}, which its checkpoint knows: training.max_steps or "
            "training.patience is too small, or the corpus has shrunk. Set it back, or train without --resume."
        )
    if any(info[name] != record[name] for name in ("step", "epoch", "words")):
        raise DistillationError(
            f"The corpus is not the one that the checkpoint was trained on: there were {record['words']} words up to step "
            f"{record['step']}, and now there are {info['words']} up to step {info['step']}. Bring it back, or train without "
            "--resume."
        )
    return {**info, "seconds": record["seconds"]}


def _plain(value: Any) -> Any:
    """None stands for what JSON can't hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, numpy.generic):
        return value.item()
    return value if isinstance(value, str | int | float | None) else None
