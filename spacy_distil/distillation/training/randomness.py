"""The global random generators, read and set."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from thinc.compat import cupy, has_cupy_gpu
from torch import Tensor


@dataclass(frozen=True)
class RandomState:
    """The states of Python's and numpy's global generators, from which corpora, batchers and thinc's layers draw."""

    python: tuple[Any, ...]
    numpy: dict[str, Any]

    @classmethod
    def capture(cls) -> RandomState:
        return cls(random.getstate(), numpy.random.get_state(legacy=False))

    def restore(self) -> None:
        random.setstate(self.python)
        numpy.random.set_state(self.numpy)

    def to_json(self) -> dict[str, Any]:
        inner = self.numpy["state"]
        return {
            "python": list(self.python),
            "numpy": {**self.numpy, "state": {**inner, "key": inner["key"].tolist()}},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RandomState:
        version, words, gauss = data["python"]
        inner = data["numpy"]["state"]
        key = numpy.array(inner["key"], dtype=numpy.uint32)
        return cls((version, tuple(words), gauss), {**data["numpy"], "state": {**inner, "key": key}})

    def seed_cupy(self) -> None:
        """Seed cupy's generator from this state. It can't be read, so it is set at each checkpoint, and on resuming from it."""
        if has_cupy_gpu:
            cupy.random.seed(int(self.numpy["state"]["key"][0]))


def torch_states() -> dict[str, Tensor]:
    """The states of torch's generators by device."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        states |= {f"cuda:{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def set_torch_states(states: Mapping[str, Tensor]) -> None:
    """Set those of the devices that are there."""
    torch.set_rng_state(states["cpu"])
    for i in range(torch.cuda.device_count()):
        if f"cuda:{i}" in states:
            torch.cuda.set_rng_state(states[f"cuda:{i}"], i)
