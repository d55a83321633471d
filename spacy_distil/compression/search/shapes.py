"""The shapes that are tried: how many layers a pipeline's encoders have, and how much of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spacy_distil.compression.budget import GROUP
from spacy_distil.compression.structured import LayerPart, Parts
from spacy_distil.encoder.config import EncoderConfig, choose_layers
from spacy_distil.encoder.shim import DistilBertShim

WIDTHS = (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1)
"""The shares of compute among which a search chooses."""


@dataclass(frozen=True, order=True)
class Shape:
    """layers: of the deepest encoder; the others keep as many in proportion. compute: the share of their multiply-adds."""

    layers: int
    compute: float = 1.0

    @property
    def name(self) -> str:
        """As its folder is called."""
        depth = f"{self.layers}-layer{'s' if self.layers > 1 else ''}"
        return depth if self.compute == 1 else f"{depth}-{100 * self.compute:g}"

    @property
    def whole_layers(self) -> Shape:
        """That from which this one is made: the same layers with all of their heads and neurons."""
        return Shape(self.layers)


def depth_of(encoders: Mapping[str, DistilBertShim]) -> int:
    """The layers of the deepest encoder."""
    return max(len(shim.encoder.config.layers) for shim in encoders.values())


def default_depths(n_layers: int) -> list[int]:
    """All layers, two thirds, a half, and a third of them."""
    return sorted({n_layers, -(-2 * n_layers // 3), -(-n_layers // 2), -(-n_layers // 3)}, reverse=True)


def spread_layers(encoders: Mapping[str, DistilBertShim], layers: int) -> dict[str, list[int]]:
    """The layers that each encoder keeps where the deepest keeps `layers`: evenly spread, in proportion, one at least."""
    deepest = depth_of(encoders)
    numbers = {name: len(shim.encoder.config.layers) for name, shim in encoders.items()}
    return {name: choose_layers(n, max(1, round(n * layers / deepest))) for name, n in numbers.items()}


def even_parts(config: EncoderConfig, layers: list[int], compute: float) -> Parts:
    """The same share of each layer, whichever heads and neurons: what that costs is what any choice of the same size does."""
    parts = []
    for number in layers:
        shape = config.layers[number]
        heads = max(1, round(compute * shape.n_heads))
        neurons = max(1, round(compute * shape.ffn_width / GROUP)) * GROUP
        parts.append(LayerPart(number, tuple(range(heads)), tuple(range(min(neurons, shape.ffn_width)))))
    return tuple(parts)
