"""What a training run has in memory beyond its config: weights, the optimiser's moments and averages, random states.

All of it under names that another process finds again. thinc knows a parameter by the number of its node, which counts the
nodes that a process has made; here it is known by its component, the place of its node in `model.walk()` and its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from spacy.language import Language
from thinc.api import Model, Optimizer
from thinc.shims import Shim
from thinc.util import to_numpy
from torch import Tensor, nn

from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.training.randomness import RandomState, set_torch_states, torch_states
from spacy_distil.encoder.shim import DistilBertShim

Tensors = dict[str, Tensor]


def capture(nlp: Language, optimizer: Optimizer, components: Sequence[str]) -> tuple[Tensors, dict[str, Any]]:
    """The state of a run between two steps: tensors, and values that JSON can hold.

    The tensors share the memory of what they come from, where that is on the CPU: write them before the next step. State of
    the optimiser for parameters that no component has (any more) is left out.

    components: those that are trained.
    """
    tensors: Tensors = {}
    updates: dict[str, int] = {}
    with_gradient: list[str] = []
    for path, parameter in _parameters(nlp, components).items():
        tensors[f"weights/{path}"] = parameter.value
        for name, arrays in _arrays(optimizer).items():
            if parameter.key in arrays:
                tensors[f"{name}/{path}"] = _to_tensor(arrays[parameter.key])
        if parameter.key in optimizer.nr_update:
            updates[path] = optimizer.nr_update[parameter.key]
        if parameter.has_gradient:
            with_gradient.append(path)
    if hasattr(nlp.update, "state_dict"):
        tensors |= {f"update/{name}": _to_tensor(array) for name, array in nlp.update.state_dict().items()}
    for path, shim in _encoders(nlp, components).items():
        tensors |= {f"pruning/{path}/{name}": tensor for name, tensor in shim.zeros.state_dict().items()}
    tensors |= {f"random/{device}": state for device, state in torch_states().items()}
    random_state = RandomState.capture()
    random_state.seed_cupy()
    scales = {
        path: [shim.loss_scale.factor, shim.loss_scale.good_steps] for path, shim in _encoders(nlp, components).items()
    }
    values = {"updates": updates, "with_gradient": with_gradient, "loss_scales": scales}
    return tensors, {**values, "random": random_state.to_json()}


def restore(
    nlp: Language,
    optimizer: Optimizer,
    components: Sequence[str],
    tensors: Mapping[str, Tensor],
    values: Mapping[str, Any],
) -> None:
    """Put a run into a captured state, whose tensors it takes over. The optimiser's schedules are not part of it.

    RAISES: DistillationError if the parameters are not those of the captured run.
    """
    parameters = _parameters(nlp, components)
    _check_shapes(parameters, _part(tensors, "weights"))
    arrays = {name: (_part(tensors, name), target) for name, target in _arrays(optimizer).items()}
    with_gradient = set(values["with_gradient"])
    for path, parameter in parameters.items():
        parameter.set(tensors[f"weights/{path}"], has_gradient=path in with_gradient)
        for saved, target in arrays.values():
            if path in saved:
                target[parameter.key] = parameter.to_array(saved[path])
        if path in values["updates"]:
            optimizer.nr_update[parameter.key] = values["updates"][path]
    for path, shim in _encoders(nlp, components).items():
        shim.loss_scale.factor, shim.loss_scale.good_steps = values["loss_scales"][path]
        shim.zeros.load_state_dict(_part(tensors, f"pruning/{path}"))
    if hasattr(nlp.update, "load_state_dict"):
        nlp.update.load_state_dict({name: tensor.numpy() for name, tensor in _part(tensors, "update").items()})
    set_torch_states(_part(tensors, "random"))
    random_state = RandomState.from_json(values["random"])
    random_state.seed_cupy()
    random_state.restore()


@dataclass(frozen=True)
class NodeParameter:
    """A parameter of a thinc node. key: what the optimiser knows it by."""

    node: Model
    name: str

    @property
    def key(self) -> tuple[int, str]:
        return self.node.id, self.name

    @property
    def value(self) -> Tensor:
        return _to_tensor(self.node.get_param(self.name))

    @property
    def has_gradient(self) -> bool:
        # thinc keeps a gradient of zeros after the step, and steps on with it where a batch adds nothing: moments fade,
        # weights decay. So it belongs to the state.
        return self.node.has_grad(self.name)

    def set(self, value: Tensor, *, has_gradient: bool) -> None:
        self.node.set_param(self.name, self.to_array(value))
        if has_gradient:
            self.node.set_grad(self.name, self.to_array(torch.zeros_like(value)))

    def to_array(self, value: Tensor) -> Any:
        return self.node.ops.asarray(value.numpy())  # type: ignore[arg-type]


@dataclass(frozen=True)
class ModuleParameter:
    """A parameter or buffer of the torch module in a shim. key: what the optimiser knows it by."""

    node: Model
    shim: Shim
    name: str
    tensor: Tensor

    @property
    def key(self) -> tuple[int, str]:
        return self.shim.id, self.name

    @property
    def value(self) -> Tensor:
        return _to_tensor(self.tensor)

    @property
    def has_gradient(self) -> bool:
        return self.tensor.grad is not None

    def set(self, value: Tensor, *, has_gradient: bool) -> None:
        # In place, and without a word to the shim: `finish_update` has made an encoder drop what it derives from weights.
        self.tensor.data.copy_(value)
        if has_gradient:
            self.tensor.grad = torch.zeros_like(self.tensor)

    def to_array(self, value: Tensor) -> Any:
        return self.node.ops.asarray(value.numpy())  # type: ignore[arg-type]


def _parameters(nlp: Language, components: Sequence[str]) -> dict[str, NodeParameter | ModuleParameter]:
    """All parameters by their paths; one that several components share by the path in the first."""
    parameters: dict[str, NodeParameter | ModuleParameter] = {}
    for path, node in _nodes(nlp, components):
        for name in node.param_names:
            if node.has_param(name):
                parameters[f"{path}/{name}"] = NodeParameter(node, name)
        for i, shim in enumerate(node.shims):
            for name, tensor in _module_tensors(path, shim):
                parameters[f"{path}/{i}/{name}"] = ModuleParameter(node, shim, name, tensor)
    return parameters


def _nodes(nlp: Language, components: Sequence[str]) -> Iterator[tuple[str, Model]]:
    seen: set[int] = set()
    for component in components:
        for i, node in enumerate(nlp.get_pipe(component).model.walk()):  # type: ignore[attr-defined]
            if node.id not in seen:
                seen.add(node.id)
                yield f"{component}/{i}", node


def _module_tensors(path: str, shim: Shim) -> Iterator[tuple[str, Tensor]]:
    module = shim._model
    if not isinstance(module, nn.Module):
        raise DistillationError(
            f"The layer {path} holds a {type(module).__name__} and no torch module: its weights can't be written to a "
            "checkpoint. Train this pipeline with `spacy train`, which writes none."
        )
    yield from module.named_parameters()
    yield from module.named_buffers()


def _encoders(nlp: Language, components: Sequence[str]) -> dict[str, DistilBertShim]:
    return {
        f"{path}/{i}": shim
        for path, node in _nodes(nlp, components)
        for i, shim in enumerate(node.shims)
        if isinstance(shim, DistilBertShim)
    }


def _arrays(optimizer: Optimizer) -> dict[str, dict[tuple[int, str], Any]]:
    arrays: dict[str, dict[tuple[int, str], Any]] = {"mom1": optimizer.mom1, "mom2": optimizer.mom2}
    return arrays if optimizer.averages is None else {**arrays, "averages": optimizer.averages}


def _check_shapes(parameters: Mapping[str, NodeParameter | ModuleParameter], saved: Mapping[str, Tensor]) -> None:
    shapes = {path: tuple(parameter.value.shape) for path, parameter in parameters.items()}
    saved_shapes = {path: tuple(tensor.shape) for path, tensor in saved.items()}
    for path in sorted(shapes.keys() | saved_shapes.keys()):
        if shapes.get(path) != saved_shapes.get(path):
            raise DistillationError(
                f"The parameter {path} has the shape {saved_shapes.get(path)} in the checkpoint and {shapes.get(path)} in this "
                "pipeline: something that it was initialised from has changed. Bring it back, or train anew without --resume."
            )


def _part(tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}/")}


def _to_tensor(array: Any) -> Tensor:
    if isinstance(array, Tensor):
        return array.detach().cpu().contiguous()
    return torch.from_numpy(numpy.asarray(to_numpy(array), order="C"))
