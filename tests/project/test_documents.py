"""The configs that README.md and docs/ show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from spacy.util import load_config_from_str, load_model_from_config

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"^```ini\n(.*?)^```$", page.read_text(encoding="utf8"), re.M | re.S))
]


def with_parents(fragment: str) -> str:
    """A part of a config, with the sections above its own that it leaves to its reader."""
    sections = re.findall(r"^\[(.+)\]$", fragment, re.M)
    parents = {section[: dot.start()]: None for section in sections for dot in re.finditer(r"\.", section)}
    return "".join(f"[{parent}]\n" for parent in parents if parent not in sections) + fragment


@pytest.mark.parametrize("block", BLOCKS)
def test_every_config_that_is_shown_parses(block: str) -> None:
    assert load_config_from_str(with_parents(block))


def test_the_first_config_of_the_readme_fills_and_builds_as_it_stands() -> None:
    (block,) = BLOCKS[0].values
    nlp = load_model_from_config(load_config_from_str(block), auto_fill=True)
    assert nlp.pipe_names == ["distilbert", "ner", "textcat"]
    load_model_from_config(nlp.config, auto_fill=False, validate=True)
