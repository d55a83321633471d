"""Halves of characters: a str of Python, and JSON's `\\ud800`, can have a surrogate of UTF-16 alone. UTF-8, spaCy's Docs and
tokenizers can't."""

from __future__ import annotations

import re

SURROGATE = re.compile("[\ud800-\udfff]")


def is_whole(*texts: str) -> bool:
    return not any(map(SURROGATE.search, texts))


def mend(text: str) -> str:
    """U+FFFD for each half, so that all characters stay where they are."""
    return SURROGATE.sub("\ufffd", text)
