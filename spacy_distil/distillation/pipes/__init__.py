"""How each family of components learns from its counterpart in a teacher: one file a family.

A distiller adds up the soft gradient and, where the corpus has annotation, the gold one *before* its single backward pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spacy.pipeline import EntityRecognizer, TextCategorizer

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.pipes import textcat, transition


@dataclass(frozen=True)
class Distiller:
    """What a family of components needs to know.

    check: takes the student's component and the teacher's, and raises a LabelError or DistillationError if the one can't
        learn from the other. Runs before any work.
    update: takes the two and a batch, runs one forward and at most one backward pass of the student's component, and
        gives the weighted loss; the optimiser's step is the caller's. The teacher's component is None where there is none, or
        no weight on what it says: gold labels alone.
    """

    check: Callable[[Any, Any], None]
    update: Callable[[Any, Any, Batch], float]


DISTILLERS: dict[type, Distiller] = {
    EntityRecognizer: Distiller(transition.check, transition.update),
    TextCategorizer: Distiller(textcat.check, textcat.update),
}


def find_distiller(pipe: Any) -> Distiller | None:
    """The distiller of the component's class or of the nearest class above it, None if there is none."""
    return next((DISTILLERS[base] for base in type(pipe).__mro__ if base in DISTILLERS), None)
