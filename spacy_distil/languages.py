"""Blank pipelines of a language that a user has named."""

from __future__ import annotations

import spacy
from spacy.language import Language


def make_blank(lang: str, error: type[ValueError]) -> Language:
    """Raises the error for a language that spaCy has not, or whose tokenizer is not installed."""
    try:
        return spacy.blank(lang)
    except ImportError as missing:
        raise error(
            f"spaCy has no language {lang!r}, or lacks what it needs. Name one by --lang; 'xx' is for all. It says: {missing}"
        ) from None
