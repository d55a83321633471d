"""The shape of a decoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class DecoderConfig:
    """The shape of a decoder whose layers are a DistilBERT's with attention to the source between the two sublayers.

    memory_width: the width of the hidden states that it attends to.
    shared: the word embeddings are the encoder's, and the decoder has none of its own.
    """

    vocab_size: int
    width: int
    memory_width: int
    n_layers: int
    n_heads: int
    ffn_width: int
    max_positions: int
    shared: bool = False
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    layer_norm_eps: float = 1e-12

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> DecoderConfig:
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
