"""The block [compression]."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from thinc.api import Config

from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.search.settings import BLOCK, DOCUMENTED, Settings, parse_size


def test_the_documented_block_has_every_field_with_its_default():
    block = Config().from_str(DOCUMENTED)[BLOCK]
    assert {**block, "speedup": 2.0} == {
        **{field.name: getattr(Settings(), field.name) for field in fields(Settings)},
        "speedup": 2.0,
    }
    assert list(block) == [field.name for field in fields(Settings)]


@pytest.mark.parametrize(
    ("text", "size"),
    [("40MB", 40e6), ("40 mb", 40e6), ("1.5GB", 1.5e9), ("800kB", 8e5), ("1000 B", 1000), (5e6, 5e6), (5, 5)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["forty", "40", "40M", "40MiB", "40 XB", "4,5MB", "-4MB", "0MB", "", "MB", -4, 0, float("nan"), float("inf")],
)
def test_what_is_no_size(text):
    with pytest.raises(CompressionError, match="write it as in 40MB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({}, "There is no target"),
        ({"layers": [3]}, "There is no target"),
        ({"speedup": 0}, "speedup = 0: it must be above 0"),
        ({"speedup": float("nan")}, "speedup = nan"),
        ({"max_drop": -1}, "max_drop = -1: it must be 0 or more"),
        ({"size": "much"}, "size = 'much'"),
        ({"layers": [3], "compute": [1.5]}, "compute = 1.5"),
        ({"layers": [3], "compute": [0]}, "compute = 0"),
        ({"layers": [], "max_drop": 1}, r"layers = \[\]: name at least one"),
        ({"max_drop": 1, "precisions": ["int4"]}, "'int4' is not known. Known are auto, int8, bfloat16"),
        ({"max_drop": 1, "held_out": 1}, "held_out = 1: it is a share of the texts"),
        ({"max_drop": 1, "coverage": 0}, "coverage = 0"),
        ({"max_drop": 1, "coverage": 1.5}, "above 0 and at most 1"),
        ({"max_drop": 1, "trials": None}, "trials = None: it must be a whole number."),
        ({"max_drop": 1, "trials": 2.5}, "trials = 2.5: it must be a whole number."),
        ({"max_drop": 1, "layers": 3}, r"layers = 3: it must be a list of a whole number, in brackets."),
        ({"max_drop": 1, "layers": [2.5]}, "it must be a list of a whole number"),
        ({"max_drop": 1, "compute": 0.5}, "compute = 0.5: it must be a list"),
        ({"max_drop": 1, "precisions": "int8"}, "precisions = 'int8': it must be a list of a name"),
        ({"max_drop": 1, "vocabulary": "no"}, "it must be true or false"),
        ({"speedup": "fast"}, "speedup = 'fast': it must be a number"),
        ({"max_drop": True}, "max_drop = True: it must be a number"),
        ({"max_drop": 1, "trials": 0}, "trials = 0: there must be one at least"),
        ({"max_drop": 1, "tries": 3}, r"\[compression\] has no field 'tries'. Its fields are speedup, size"),
    ],
)
def test_settings_that_make_no_sense_name_the_field(block, message):
    with pytest.raises(CompressionError, match=message):
        Settings.from_block(block)


def test_word_pieces_go_where_the_size_matters():
    assert Settings.from_block({"size": "40MB"}).cuts_vocabulary
    assert not Settings.from_block({"size": "40MB", "vocabulary": False}).cuts_vocabulary
    assert not Settings.from_block({"speedup": 2}).cuts_vocabulary
    assert Settings.from_block({"speedup": 2, "vocabulary": True}).cuts_vocabulary


def test_layers_and_compute_together_are_a_grid_and_need_no_target():
    settings = Settings.from_block({"layers": [3], "compute": [0.5]})
    assert settings.is_grid
    assert settings.limits.are_open


def test_the_docs_show_the_block_as_it_is():
    docs = Path(__file__).parents[3] / "docs" / "compression.md"
    assert DOCUMENTED.strip() in docs.read_text(encoding="utf8")
