"""Files known by their contents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BLOCK = 1 << 24  # bytes that are read at once


def add_file(digest: Any, path: Path) -> None:
    """Add the contents of a file to a digest of hashlib's."""
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
