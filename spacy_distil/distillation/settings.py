"""The block `[distillation]` of a student's config: `DOCUMENTED` shows every field with its default."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from typing import Any, Literal

from spacy.util import registry

from spacy_distil.distillation.errors import DistillationError
from spacy_distil.errors import check_fields, check_kind

BLOCK = "distillation"
DOCUMENTED = """[distillation]
# A trained pipeline, folder or package, or a list of several, whose probabilities are averaged. Agreement is measured with the
# first of them that has the component, from which `inherit_heads` starts too; `inherit` and `hidden` take the first of all.
teacher = "training/teacher/model-best"
# Names of the components that learn from it. null: all that both have, that can be distilled and are not frozen.
components = null
# T of the soft labels of exclusive classes and of a parser's moves; independent labels are compared at 1.
temperature = 2.0
# Weight of what the teacher says, of what the corpus says where it has annotation, and, in a block of its own, of the
# distance between hidden states. Each is a number or a schedule of thinc's, read once a step of the optimiser.
soft_weight = 1.0
gold_weight = 0.5
# Weight of the distance between hidden states, of a component that has an encoder of its own: distilbert_qa. Which states, and
# how they are compared, the block `hidden` says, whose own weight is that of a shared encoder.
states_weight = 0.0
# Start the student's encoder from the teacher's, layer by layer as `hidden.layers` pairs them, where shapes allow.
inherit = false
# Start its other components from the teacher's too, where labels and shapes are the same.
inherit_heads = false

# What holds for one component alone: a block [distillation.per_component.ner] has any of temperature, soft_weight,
# gold_weight and states_weight.
[distillation.per_component]

[distillation.hidden]
weight = 0.0
# cosine, mean_square or relations.
loss = "cosine"
# uniform, last, or pairs of a student's and a teacher's layer, [[1, 2], [2, 4], [3, 6]]; 0 stands for the embeddings.
layers = "uniform"
# How many heads the relations between tokens are cut into.
relation_heads = 12
# The encoders, where a pipeline has several.
student = null
teacher = null

[distillation.cache]
# Where the teacher's answers are kept. null: nowhere, the teacher runs in every epoch.
folder = null
# Its size at most, in megabytes.
max_size = 4000
"""
FIELDS = (
    "teacher",
    "components",
    "temperature",
    "soft_weight",
    "gold_weight",
    "states_weight",
    "inherit",
    "inherit_heads",
    "per_component",
    "hidden",
    "cache",
)
HIDDEN_LOSSES = ("cosine", "mean_square", "relations")
LAYER_CHOICES = ("uniform", "last")

LayerChoice = Literal["uniform", "last"] | list[tuple[int, int]]


class Rate:
    """A number, or a schedule with a value for each step of the optimiser.

    name: its place in the config, for errors.
    above: its values have to be greater than this; None: 0 or more.
    """

    def __init__(self, name: str, value: float | Iterable[float], *, above: float | None = None) -> None:
        self.name, self._above = name, above
        self._values: Iterator[float] | None = None
        self._step = 0
        if isinstance(value, int | float) and not isinstance(value, bool):
            self._value = self._check(value)
        elif hasattr(value, "__iter__") and not isinstance(value, str | Mapping):
            self._values = iter(value)
            self._value = self._check(next(self._values, None))
        else:
            raise DistillationError(f"{name} = {value!r}: it must be a number, or a schedule of thinc's.")

    @property
    def is_zero(self) -> bool:
        """Whether it is 0 for good."""
        return self._values is None and self._value == 0

    def at(self, step: int) -> float:
        """The value in a step. Steps may be asked for again, but not for an earlier one than the last."""
        while self._values is not None and self._step < step:
            self._value = self._check(next(self._values, self._value))
            self._step += 1
        return self._value

    def _check(self, value: Any) -> float:
        if isinstance(value, bool | str) or not hasattr(value, "__float__"):
            raise DistillationError(f"{self.name}: its schedule gives {value!r}, and must give numbers.")
        if self._above is not None and not self._above < value < math.inf:
            raise DistillationError(f"{self.name} = {value}: it must be above {self._above:g}, and finite.")
        if not 0 <= value < math.inf:
            raise DistillationError(f"{self.name} = {value}: it must be 0 or more, and finite.")
        return float(value)


@dataclass(frozen=True)
class Weights:
    """What holds for a component."""

    temperature: Rate
    soft_weight: Rate
    gold_weight: Rate
    states_weight: Rate


@dataclass(frozen=True)
class Hidden:
    """The loss between hidden states, and which layer of the teacher teaches which of the student."""

    weight: Rate
    loss: str
    layers: LayerChoice
    relation_heads: int
    student: str | None
    teacher: str | None


@dataclass(frozen=True)
class Cache:
    """max_size: megabytes."""

    folder: Path | None
    max_size: float


@dataclass(frozen=True)
class Settings:
    """The block, read and checked. See `DOCUMENTED` for its fields."""

    teachers: tuple[str, ...]
    components: tuple[str, ...] | None
    weights: Weights
    hidden: Hidden
    cache: Cache
    inherit: bool = False
    inherit_heads: bool = False
    per_component: Mapping[str, Weights] = field(default_factory=dict)

    @classmethod
    def from_block(cls, block: Mapping[str, Any]) -> Settings:
        """RAISES: DistillationError that names the field."""
        block = registry.resolve(dict(block))
        _check_fields(BLOCK, block, list(FIELDS))
        weights = _read_weights(BLOCK, block)
        per_component = {}
        of_components = block.get("per_component") or {}
        _check_block(f"{BLOCK}.per_component", of_components)
        for name, own in of_components.items():
            place = f"{BLOCK}.per_component.{name}"
            _check_fields(place, own, ["temperature", "soft_weight", "gold_weight", "states_weight"])
            per_component[name] = _read_weights(place, own, weights)
        components = _read(BLOCK, block, "components", "a list of a name", None)
        return cls(
            teachers=_read_teachers(block.get("teacher")),
            components=None if components is None else tuple(components),
            weights=weights,
            hidden=_read_hidden(block.get("hidden") or {}),
            cache=_read_cache(block.get("cache") or {}),
            inherit=_read(BLOCK, block, "inherit", "true or false", False),
            inherit_heads=_read(BLOCK, block, "inherit_heads", "true or false", False),
            per_component=per_component,
        )

    def weights_of(self, component: str) -> Weights:
        return self.per_component.get(component, self.weights)


def _check_block(place: str, block: Any) -> None:
    if not isinstance(block, Mapping):
        raise DistillationError(f"[{place}] must be a block of settings, and is {block!r}.")


def _check_fields(place: str, block: Any, known: list[str]) -> None:
    _check_block(place, block)
    check_fields(place, block, known, DistillationError)


def _read(place: str, block: Mapping[str, Any], name: str, kind: str, default: Any) -> Any:
    """A field's value. null is good where it is the default."""
    value = block.get(name, default)
    if value is not None or default is not None:
        check_kind(f"[{place}] {name}", value, kind, DistillationError)
    return value


def _read_teachers(value: Any) -> tuple[str, ...]:
    if not value:
        raise DistillationError(
            f"[{BLOCK}] names no teacher. Give the folder of a trained pipeline or the name of an installed package: "
            'teacher = "training/teacher/model-best".'
        )
    kind = "a list of a path" if isinstance(value, list | tuple) else "a path"
    check_kind(f"[{BLOCK}] teacher", value, kind, DistillationError)
    return tuple(map(str, value)) if kind == "a list of a path" else (str(value),)


def _read_weights(place: str, block: Mapping[str, Any], default: Weights | None = None) -> Weights:
    values = {"temperature": 2.0, "soft_weight": 1.0, "gold_weight": 0.5, "states_weight": 0.0}
    rates = {}
    for name, standard in values.items():
        if name not in block and default is not None:
            rates[name] = getattr(default, name)
        else:
            above = 0.0 if name == "temperature" else None
            rates[name] = Rate(f"[{place}] {name}", block.get(name, standard), above=above)
    weights = Weights(**rates)
    if weights.soft_weight.is_zero and weights.gold_weight.is_zero:
        raise DistillationError(
            f"[{place}] soft_weight and gold_weight are both 0, so that nothing can be learnt. Give one of them a weight."
        )
    return weights


def _read_hidden(block: Mapping[str, Any]) -> Hidden:
    place = f"{BLOCK}.hidden"
    _check_fields(place, block, ["weight", "loss", "layers", "relation_heads", "student", "teacher"])
    loss, layers = block.get("loss", "cosine"), block.get("layers", "uniform")
    if loss not in HIDDEN_LOSSES:
        raise DistillationError(f"[{place}] loss = {loss!r}: it must be one of {', '.join(HIDDEN_LOSSES)}.")
    if layers not in LAYER_CHOICES:
        try:
            layers = [(index(student), index(teacher)) for student, teacher in layers]
        except (TypeError, ValueError):
            layers = []
        if not layers:
            raise DistillationError(
                f"[{place}] layers = {block['layers']!r}: it must be {' or '.join(map(repr, LAYER_CHOICES))}, or pairs of a "
                "student's and a teacher's layer, [[1, 2], [2, 4]]."
            )
    heads = _read(place, block, "relation_heads", "a whole number", 12)
    if heads < 1:
        raise DistillationError(f"[{place}] relation_heads = {heads}: it must be 1 or more.")
    return Hidden(
        weight=Rate(f"[{place}] weight", block.get("weight", 0.0)),
        loss=loss,
        layers=layers,
        relation_heads=heads,
        student=_read(place, block, "student", "a name", None),
        teacher=_read(place, block, "teacher", "a name", None),
    )


def _read_cache(block: Mapping[str, Any]) -> Cache:
    place = f"{BLOCK}.cache"
    _check_fields(place, block, ["folder", "max_size"])
    folder = _read(place, block, "folder", "a path", None)
    max_size = _read(place, block, "max_size", "a number", 4000)
    if not 0 < max_size < math.inf:
        raise DistillationError(f"[{place}] max_size = {max_size}: it must be above 0, and finite, in megabytes.")
    return Cache(None if folder is None else Path(folder), max_size)
