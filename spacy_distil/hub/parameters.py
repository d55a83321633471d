"""A head's parameters in the layers of a component's model."""

from __future__ import annotations

from collections.abc import Mapping

from thinc.api import Model
from thinc.util import xp2torch
from torch import Tensor

from spacy_distil.errors import CheckpointError


def set_parameters(layers: Mapping[str, Model], parameters: Mapping[str, Tensor], where: str) -> None:
    """Put a head's parameters, by the names `layer.parameter`, into initialised layers.

    where: what to call the checkpoint in an error.
    Raises CheckpointError for a shape that does not fit.
    """
    for name, value in parameters.items():
        layer, parameter = name.split(".")
        expected = layers[layer].get_param(parameter).shape
        if tuple(value.shape) != expected:
            raise CheckpointError(
                f"{where} has the head's {name!r} in the shape {tuple(value.shape)}, and its labels and its width ask for "
                f"{expected}: weights and config.json belong to different checkpoints."
            )
        layers[layer].set_param(parameter, layers[layer].ops.asarray(value.numpy()))  # type: ignore[arg-type]


def get_parameters(layers: Mapping[str, Model], names: Mapping[str, str]) -> dict[str, Tensor]:
    """The parameters that a table of names asks for, by our names."""
    found = {}
    for name in names.values():
        layer, parameter = name.split(".")
        found[name] = xp2torch(layers[layer].get_param(parameter)).detach().clone()
    return found
