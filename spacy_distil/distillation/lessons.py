"""What teachers say of a batch, in arrays that outlive the teacher's run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Array = Any  # numpy or cupy

Answer = dict[str, Array]
"""What a component of a teacher says of one Doc: arrays by name, in the teacher's order of labels. Nothing else is in it, so
that it can be kept on disk."""


@dataclass(frozen=True)
class Lesson:
    """What one teacher says of a batch.

    teacher: its component, for labels and for the layers that stand above what `answers` hold.
    answers: one a Doc.
    """

    teacher: Any
    answers: Sequence[Answer]
