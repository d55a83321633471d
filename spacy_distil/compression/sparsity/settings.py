"""The block `[pruning]` of a config: `DOCUMENTED` shows every field with its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spacy.util import registry
from thinc.api import Optimizer

from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.sparsity.schedule import CubicSchedule
from spacy_distil.compression.sparsity.selection import Selection
from spacy_distil.errors import check_fields

BLOCK = "pruning"
DOCUMENTED = """[pruning]
# The share of the weights that are zero in the end, at least 0 and less than 1. null: what the pattern says.
sparsity = 0.9
# magnitude: the smallest go. movement: what training moves towards zero goes (Sanh et al. 2020), for nearly all weights and for
# trainings that start from a checkpoint which has not learnt its task: what has learnt it moves nowhere.
method = "magnitude"
# local: the same share of each matrix. global: of all together, however unlike their weights are.
scope = "local"
# null: single weights. "2:4": of each four inputs of a neuron two stay. "32x32": blocks of rows x columns, as a whole.
pattern = null
# Prune the embeddings of words and positions too. Biases and norms never are.
embeddings = false
# Names of the components whose encoder is pruned. null: all that have one.
components = null
# Steps of the optimiser. Nothing is pruned up to `begin`, while scores warm up; then sparsity rises along a cubic curve (Zhu
# and Gupta 2017), with a choice every so many steps; at `end` it is reached, and what is left learns on. Leave about a
# quarter of the steps for that. The best state is chosen among those from `end` on.
begin = 200
end = 1500
every = 10

# What learns the scores of movement. Adam counts each step alike; {"@optimizers": "SGD.v1"} sums movements up as they are:
# large weights go first, which a pipeline gets over slowly.
[pruning.scores]
@optimizers = "Adam.v1"
learn_rate = 0.01
grad_clip = 0.0
use_averages = false
"""
METHODS = ("magnitude", "movement")
DEFAULTS: dict[str, Any] = {
    "sparsity": None,
    "method": "magnitude",
    "scope": "local",
    "pattern": None,
    "embeddings": False,
    "components": None,
    "begin": 200,
    "end": 1500,
    "every": 10,
    "scores": {"@optimizers": "Adam.v1", "learn_rate": 0.01, "grad_clip": 0.0, "use_averages": False},
}


@dataclass(frozen=True)
class Settings:
    """The block, read and checked. See `DOCUMENTED` for its fields."""

    method: str
    selection: Selection
    schedule: CubicSchedule
    components: tuple[str, ...] | None
    scores: dict[str, Any]

    @classmethod
    def from_block(cls, block: Mapping[str, Any]) -> Settings:
        """RAISES: CompressionError that names the field."""
        check_fields(BLOCK, block, DEFAULTS, CompressionError)
        values = {**DEFAULTS, **block}
        check_method(values["method"])
        if isinstance(values["components"], str):
            raise CompressionError(
                f"[{BLOCK}] components = {values['components']!r}: it must be a list of names, or null."
            )
        try:
            selection = Selection.read(
                **{name: values[name] for name in ("sparsity", "scope", "pattern", "embeddings")}
            )
        except CompressionError as error:
            raise CompressionError(f"[{BLOCK}] {error}") from None
        settings = cls(
            method=values["method"],
            selection=selection,
            schedule=_read_schedule(selection.sparsity, **{name: values[name] for name in ("begin", "end", "every")}),
            components=None if values["components"] is None else tuple(values["components"]),
            scores=values["scores"],
        )
        settings.make_optimizer()  # an error now, if any
        return settings

    def make_optimizer(self) -> Optimizer:
        """A new one, that learns the scores of one encoder."""
        optimizer = registry.resolve({"scores": self.scores})["scores"]
        if not isinstance(optimizer, Optimizer):
            raise CompressionError(f"[{BLOCK}.scores] must be an optimiser of thinc's, and is {optimizer!r}.")
        return optimizer


def check_method(method: Any) -> None:
    """RAISES: CompressionError"""
    if method not in METHODS:
        raise CompressionError(f"[{BLOCK}] method = {method!r} is not known. Known are {', '.join(METHODS)}.")


def _read_schedule(sparsity: float, *, begin: Any, end: Any, every: Any) -> CubicSchedule:
    for name, value, least in (("begin", begin, 0), ("end", end, 1), ("every", every, 1)):
        if not isinstance(value, int) or value < least:
            raise CompressionError(f"[{BLOCK}] {name} = {value!r}: it must be a whole number, {least} or more.")
    if end <= begin:
        raise CompressionError(f"[{BLOCK}] end = {end} has to come after begin = {begin}.")
    return CubicSchedule(sparsity, begin, end, every)
