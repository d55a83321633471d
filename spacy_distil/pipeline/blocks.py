"""Blocks of a config, and those of encoders among them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

ENCODER = "spacy-distil.DistilBert.v1"


def walk_blocks(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A block of a config and all within it: a component's own encoder is a block in its model's."""
    yield block
    for value in block.values():
        if isinstance(value, dict):
            yield from walk_blocks(value)


def encoder_blocks(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The blocks of the encoders in a block."""
    return (inner for inner in walk_blocks(block) if inner.get("@architectures") == ENCODER)
