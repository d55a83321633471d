"""`python -m spacy distil quantize`, as the command line calls it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import spacy

from tests.cli.test_import import run, says
from tests.encoder.test_int8 import runs_here
from tests.pipeline.conftest import LISTENER, build, tagger

__all__ = ["build"]


@pytest.fixture
def saved(build, tmp_path) -> Path:
    build(tagger=tagger(LISTENER)).to_disk(tmp_path / "nlp")
    return tmp_path / "nlp"


@pytest.fixture
def texts(tmp_path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("the film was good\na bad film\nthe staff were kind\n", encoding="utf8")
    return path


@runs_here
def test_a_corpus_calibrates_it(saved, texts, tmp_path):
    result = run("quantize", saved, tmp_path / "out", texts, "--sample", "2")
    assert result.exit_code == 0, result.output
    says(result, "static")
    nlp = spacy.load(tmp_path / "out")
    assert nlp.get_pipe("distilbert").shim.calibration is not None
    assert nlp("the film")[0].has_vector
    before, now = map(float, re.findall(r"([0-9.]+)\s+MB", result.output))  # lines are wrapped
    assert 0 < now < before


@runs_here
def test_without_one_it_is_dynamic(saved, tmp_path):
    result = run("quantize", saved, tmp_path / "out")
    assert result.exit_code == 0, result.output
    says(result, "dynamic")
    assert spacy.load(tmp_path / "out").get_pipe("distilbert").shim.calibration is None


def test_bfloat16_rounds_the_file(saved, tmp_path):
    result = run("quantize", saved, tmp_path / "out", "--precision", "bfloat16")
    assert result.exit_code == 0, result.output
    assert spacy.load(tmp_path / "out").get_pipe("distilbert").shim.storage == "bfloat16"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--precision", "int4"], "precision = 'int4' is not known. Known are int8, bfloat16."),
        (["texts.txt", "--precision", "bfloat16"], "A corpus calibrates int8. bfloat16 needs none"),
        (["nowhere.spacy"], "nowhere.spacy"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(saved, texts, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    result = run("quantize", saved, tmp_path / "out", *options)
    assert result.exit_code == 1
    says(result, words)
    assert {path.name for path in tmp_path.iterdir()} == {"nlp", "texts.txt"}
