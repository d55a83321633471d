"""Scores of a pipeline that is not pruned yet, which must not be the best of its training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import MethodType
from typing import Any

from spacy.language import Language
from spacy.training import Example

from spacy_distil.compression.sparsity.pruner import Pruner


class Unfinished(float):
    """A score that is shown as it is, and weighs what is left to do, below zero: any pipeline that is pruned as it should be is
    better, and patience does not run out before.

    progress: below 1.
    """

    progress: float

    def __mul__(self, weight: float) -> float:
        return (self.progress - 1.0) * weight


class PruningEvaluation:
    """Replaces `Language.evaluate` on one instance while it is pruned.

    nlp: the pipeline.
    evaluate: its evaluation so far.
    """

    def __init__(self, nlp: Language, evaluate: Callable[..., dict[str, Any]], pruners: Sequence[Pruner]) -> None:
        self.nlp = nlp
        self._evaluate, self._pruners = evaluate, list(pruners)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy or a pickle is a plain pipeline with spaCy's own evaluation."""
        return _stock_evaluate, (self.nlp,)

    def __call__(self, examples: Iterable[Example], **settings: Any) -> dict[str, Any]:
        """Arguments and result are those of `Language.evaluate`."""
        scores = self._evaluate(examples, **settings)
        progress = min(pruner.progress for pruner in self._pruners)
        if progress == 1.0:
            return scores
        return {
            name: _unfinished(value, progress) if isinstance(value, int | float) else value
            for name, value in scores.items()
        }


def _stock_evaluate(nlp: Language) -> MethodType:
    return MethodType(type(nlp).evaluate, nlp)


def _unfinished(value: float, progress: float) -> Unfinished:
    score = Unfinished(value)
    score.progress = progress
    return score
