"""Layers, heads and neurons of an encoder removed for good: what stays are smaller matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spacy_distil.compression.errors import CompressionError
from spacy_distil.encoder.checkpoint import DISTILBERT_LAYER, Checkpoint
from spacy_distil.encoder.config import EncoderConfig, LayerConfig

# The parameters that have a row, and those that have a column, for each number of a head, and for each neuron.
HEAD_ROWS = ("attention.q_lin", "attention.k_lin", "attention.v_lin")
HEAD_COLUMNS, NEURON_ROWS, NEURON_COLUMNS = "attention.out_lin", "ffn.lin1", "ffn.lin2"


@dataclass(frozen=True)
class LayerPart:
    """What stays of a layer: its number, and its heads and neurons by theirs, ascending."""

    layer: int
    heads: tuple[int, ...]
    neurons: tuple[int, ...]


Parts = tuple[LayerPart, ...]


def whole_layers(config: EncoderConfig, layers: Sequence[int] | None = None) -> Parts:
    """Layers with all of their heads and neurons.

    layers: their numbers; None: all.
    RAISES: CompressionError for layers that are not there, or not in ascending order.
    """
    n_layers = len(config.layers)
    layers = range(n_layers) if layers is None else list(layers)
    if not layers or list(layers) != sorted(set(layers) & set(range(n_layers))):
        raise CompressionError(
            f"layers = {list(layers)}: name the layers that stay in ascending order, at least one of 0 to {n_layers - 1}."
        )
    shapes = [(i, config.layers[i]) for i in layers]
    return tuple(LayerPart(i, tuple(range(s.n_heads)), tuple(range(s.ffn_width))) for i, s in shapes)


def keep_parts(checkpoint: Checkpoint, parts: Parts) -> Checkpoint:
    """The encoder with some of its layers, and of each some heads and neurons. It computes what the whole one does with the
    outputs of the others at zero: what a head or a neuron adds to a layer's sum goes with it, the biases of the sum stay.

    RAISES: CompressionError for a layer that would lose all its heads or all its neurons.
    """
    for part in parts:
        for kind, kept in (("heads", part.heads), ("neurons", part.neurons)):
            if not kept:
                raise CompressionError(
                    f"Layer {part.layer} would lose all its {kind}. Let it keep one at least, or remove the layer itself."
                )
    weights = {name: value for name, value in checkpoint.weights.items() if not DISTILBERT_LAYER.fullmatch(name)}
    for new, part in enumerate(parts):
        prefix = f"transformer.layer.{part.layer}."
        layer = {name[len(prefix) :]: value for name, value in checkpoint.weights.items() if name.startswith(prefix)}
        for name, value in _keep_part(layer, part, checkpoint.config.head_width).items():
            weights[f"transformer.layer.{new}.{name}"] = value
    return checkpoint.reshaped(shape_of(checkpoint.config, parts), weights)


def shape_of(config: EncoderConfig, parts: Parts) -> EncoderConfig:
    return replace(config, layers=tuple(LayerConfig(len(part.heads), len(part.neurons)) for part in parts))


def _keep_part(layer: dict[str, Tensor], part: LayerPart, head_width: int) -> dict[str, Tensor]:
    device = layer[f"{HEAD_COLUMNS}.weight"].device
    heads = torch.tensor(part.heads, device=device)
    context = (heads[:, None] * head_width + torch.arange(head_width, device=device)).flatten()
    neurons = torch.tensor(part.neurons, device=device)
    rows = {f"{name}.{kind}": context for name in HEAD_ROWS for kind in ("weight", "bias")}
    rows |= {f"{NEURON_ROWS}.{kind}": neurons for kind in ("weight", "bias")}
    columns = {f"{HEAD_COLUMNS}.weight": context, f"{NEURON_COLUMNS}.weight": neurons}
    kept = {}
    for name, value in layer.items():
        if name in rows:
            value = value.index_select(0, rows[name])
        elif name in columns:
            value = value.index_select(1, columns[name])
        kept[name] = value
    return kept
