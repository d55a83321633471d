"""What every torch module inside a thinc model needs: averages swapped in, devices, copies, safetensors."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from thinc.shims import Shim
from thinc.util import xp2torch
from torch import Tensor, nn
from typing_extensions import Self

from spacy_distil.drafts import new_file
from spacy_distil.encoder.saved import to_metadata, write_tensors


class TorchShim(Shim):
    """Holds a module once it has weights.

    _plan: what was made of the weights for prediction; forgotten when they change.
    """

    _model: nn.Module | None
    _plan: Any = None

    @property
    def has_weights(self) -> bool:
        return self._model is not None

    # For its kinds

    def _serialize(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The weights, and what a reader has to know of them."""
        raise NotImplementedError

    def from_disk(self, path: str | Path) -> Self:
        raise NotImplementedError

    # Averages

    @contextlib.contextmanager
    def use_params(self, params: dict[Any, Any]) -> Iterator[None]:
        """Swap in parameters, such as an optimiser's averages, by the keys `(self.id, name)`."""
        parameters = dict(self._model.named_parameters()) if self._model is not None else {}
        chosen = {name: params[self.id, name] for name in parameters if (self.id, name) in params}
        backup = {name: parameters[name].data for name in chosen}
        for name, value in chosen.items():
            parameter = parameters[name]
            parameter.data = xp2torch(value, device=parameter.device).view_as(parameter)
        if chosen:
            self._plan = None
        try:
            yield
        finally:
            for name, tensor in backup.items():
                parameters[name].data = tensor
            if chosen:
                self._plan = None

    # Copies, devices

    def to_device(self, device_type: str, device_id: int) -> None:
        if self._model is not None:
            self._model.to("cpu" if device_type == "cpu" else torch.device("cuda", device_id))
            self._plan = None

    def copy(self) -> Self:
        """A copy that learns for itself: it has an id of its own, by which optimisers know it."""
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        # The plan's blocked weights can be neither copied nor pickled; they are made again when they are needed.
        return {**self.__dict__, "_plan": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with Shim.global_id_lock:
            Shim.global_id += 1
            self.id = Shim.global_id

    # Bytes

    def to_bytes(self) -> bytes:
        """safetensors, with shape and tokenizer in the metadata; empty where there are no weights yet."""
        if self._model is None:
            return b""
        weights, about = self._serialize()
        return safetensors.torch.save(weights, to_metadata(about))

    def from_bytes(self, data: bytes) -> Self:
        with tempfile.TemporaryDirectory() as folder:  # safetensors reads metadata from files only
            path = Path(folder) / "model.safetensors"
            path.write_bytes(data)
            return self.from_disk(path) if data else self

    def to_disk(self, path: str | Path) -> None:
        """Write the file of `to_bytes`, all or nothing."""
        weights, about = self._serialize()
        with new_file(Path(path)) as draft:
            write_tensors(weights, draft, to_metadata(about))
