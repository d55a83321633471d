"""The block `[compression]` of a config: `DOCUMENTED` shows every field with its default."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spacy_distil.compression.errors import CompressionError
from spacy_distil.errors import check_fields, check_kind

BLOCK = "compression"
DOCUMENTED = """[compression]
# What the pipeline has to reach, each null where it does not matter: so many times the words per second of the whole one; so
# large a folder, as in "40MB"; so many points of its score lost at most. The score is the mean by [training.score_weights].
speedup = null
size = null
max_drop = null
# How many layers the pipelines that are tried have. null: all, and two thirds, a half and a third of them.
layers = null
# Which shares of the multiply-adds of these layers their heads and neurons keep. null: as many as the target lets them. With
# both lists given there is no search: every pair of them is tried.
compute = null
# Remove the word pieces that the corpus does not use. null: where there is a target for the size.
vocabulary = null
# The share of the corpus's pieces that stay then.
coverage = 1.0
# How each is stored and run: auto, as the pipeline says; int8; bfloat16, which halves the file. null: auto and int8, or auto
# and bfloat16 where int8 does not run.
precisions = null
# Trainings at most: one for each number of layers, and one for each share of them.
trials = 8
# The share of the corpus that is held out, if no other corpus is given for that, and how many of its texts are read at most:
# on them all pipelines are scored, and the best state of each training is chosen.
held_out = 0.1
scored = 2000
# Texts on which the importance of heads and neurons is measured.
sample = 1000
"""
PRECISIONS = ("auto", "int8", "bfloat16")
UNITS = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9}


@dataclass(frozen=True)
class Limits:
    """What a pipeline has to reach; None where it does not matter.

    speedup: in multiples of the whole pipeline's words per second. size: bytes. max_drop: points of the score.
    """

    speedup: float | None = None
    size: float | None = None
    max_drop: float | None = None

    def allow_cost(self, speedup: float, size: float) -> bool:
        return (self.speedup is None or speedup >= self.speedup) and (self.size is None or size <= self.size)

    def miss_by(self, speedup: float, size: float) -> float:
        """How many times as fast, or as small, a pipeline would have to be; above 1 where it costs too much."""
        return max((self.speedup or 0.0) / speedup, size / (self.size or math.inf))

    def allow_drop(self, drop: float) -> bool:
        return self.max_drop is None or drop <= self.max_drop

    @property
    def are_open(self) -> bool:
        return self.speedup is None and self.size is None and self.max_drop is None

    @property
    def wants_small(self) -> bool:
        """Whether the smallest pipeline is wanted, and not the fastest."""
        return self.size is not None and self.speedup is None


@dataclass(frozen=True)
class Settings:
    """The block, read and checked. See `DOCUMENTED` for its fields."""

    speedup: float | None = None
    size: str | float | None = None
    max_drop: float | None = None
    layers: Sequence[int] | None = None
    compute: Sequence[float] | None = None
    vocabulary: bool | None = None
    coverage: float = 1.0
    precisions: Sequence[str] | None = None
    trials: int = 8
    held_out: float = 0.1
    scored: int = 2000
    sample: int = 1000

    @classmethod
    def from_block(cls, block: Mapping[str, Any]) -> Settings:
        """RAISES: CompressionError that names the field."""
        check_fields(BLOCK, block, FIELDS, CompressionError)
        for name, value in block.items():
            if value is not None or getattr(cls, name) is not None:  # null is good where it is the default
                check_kind(name, value, FIELDS[name], CompressionError)
        settings = cls(**block)
        settings.check()
        return settings

    def check(self) -> None:
        """RAISES: CompressionError for the first value that can't be."""
        limits = self.limits
        if limits.speedup is not None and not limits.speedup > 0:
            raise CompressionError(f"speedup = {self.speedup}: it must be above 0, in multiples of the whole pipeline.")
        if limits.max_drop is not None and not limits.max_drop >= 0:
            raise CompressionError(f"max_drop = {self.max_drop}: it must be 0 or more, in points of the score.")
        if limits.are_open and not self.is_grid:
            raise CompressionError(
                "There is no target: ask for a speed-up, a size, or the most that the score may drop; or name the numbers of "
                "layers and the shares of compute to try."
            )
        for share in self.compute or ():
            if not 0 < share <= 1:
                raise CompressionError(f"compute = {share}: a share of the multiply-adds is above 0 and at most 1.")
        for name in self.precisions or ():
            if name not in PRECISIONS:
                raise CompressionError(f"precisions: {name!r} is not known. Known are {', '.join(PRECISIONS)}.")
        for name, value in (("layers", self.layers), ("compute", self.compute), ("precisions", self.precisions)):
            if value is not None and not value:
                raise CompressionError(f"{name} = []: name at least one, or leave it null.")
        if not 0 < self.held_out < 1:
            raise CompressionError(f"held_out = {self.held_out}: it is a share of the texts, above 0 and below 1.")
        if not 0 < self.coverage <= 1:
            raise CompressionError(f"coverage = {self.coverage}: it is a share of the pieces, above 0 and at most 1.")
        for name, number in (("trials", self.trials), ("scored", self.scored), ("sample", self.sample)):
            if number < 1:
                raise CompressionError(f"{name} = {number}: there must be one at least.")

    @property
    def limits(self) -> Limits:
        return Limits(self.speedup, None if self.size is None else parse_size(self.size), self.max_drop)

    @property
    def is_grid(self) -> bool:
        """Whether layers and compute are both given, so that there is nothing to search."""
        return self.layers is not None and self.compute is not None

    @property
    def cuts_vocabulary(self) -> bool:
        return self.size is not None if self.vocabulary is None else self.vocabulary


FIELDS = {
    "speedup": "a number",
    "size": "a size",
    "max_drop": "a number",
    "layers": "a list of a whole number",
    "compute": "a list of a number",
    "vocabulary": "true or false",
    "coverage": "a number",
    "precisions": "a list of a name",
    "trials": "a whole number",
    "held_out": "a number",
    "scored": "a whole number",
    "sample": "a whole number",
}


def parse_size(text: str | float) -> float:
    """Bytes of `40MB` and the like; a number that is no text is bytes already.

    RAISES: CompressionError for what is no size, and for a text without a unit.
    """
    if isinstance(text, str):
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?b)", text.strip().lower())
        size = float(found[1]) * UNITS[found[2]] if found else 0.0
    else:
        size = float(text)
    if not 0 < size < math.inf:
        raise CompressionError(f"size = {text!r}: write it as in 40MB, in kB, MB or GB.")
    return size
