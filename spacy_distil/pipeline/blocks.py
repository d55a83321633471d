"""Blocks of a config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def walk_blocks(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A block of a config and all within it: a component's own encoder is a block in its model's."""
    yield block
    for value in block.values():
        if isinstance(value, dict):
            yield from walk_blocks(value)
