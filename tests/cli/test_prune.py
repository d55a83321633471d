"""`python -m spacy distil prune`, as the command line calls it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import spacy

from spacy_distil.compression.sparsity.report import measure_sparsity
from tests.cli.test_import import run, says
from tests.pipeline.conftest import LISTENER, build, tagger

__all__ = ["build"]


@pytest.fixture
def saved(build, tmp_path) -> Path:
    build(tagger=tagger(LISTENER)).to_disk(tmp_path / "nlp")
    return tmp_path / "nlp"


def test_it_writes_a_smaller_pipeline_and_says_how_sparse_it_is(saved, tmp_path):
    result = run("prune", saved, tmp_path / "out", "--sparsity", "0.75", "--scope", "local", "--embeddings")
    assert result.exit_code == 0, result.output
    counted = measure_sparsity(spacy.load(tmp_path / "out"))
    assert counted["q_lin"].share == counted["word_embeddings"].share == 0.75
    rows = {line.split()[0]: line.split() for line in result.output.splitlines() if "%" in line}
    assert rows["lin1"] == ["lin1", "6,144", "1,536", "75.0%"]
    encoder = counted["encoder"]
    assert rows["encoder"][1:3] == [f"{encoder.weights:,}", f"{encoder.weights - encoder.zeros:,}"]
    before, now = map(float, re.findall(r"([0-9.]+)\s+MB", result.output))  # lines are wrapped
    assert 0 < now < before
    assert {path.name for path in tmp_path.iterdir()} == {"nlp", "out"}


def test_options_reach_the_selection(saved, tmp_path):
    result = run("prune", saved, tmp_path / "out", "--pattern", "2:4")
    assert result.exit_code == 0, result.output
    weight = spacy.load(tmp_path / "out").get_pipe("distilbert").shim.encoder.layers[0].ffn.lin1.weight
    assert (weight.view(-1, 4) != 0).sum(dim=1).eq(2).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sparsity", "1.0"], "sparsity = 1.0"),
        (["--sparsity", "-0.1"], "sparsity = -0.1"),
        ([], "No sparsity is given"),
        (["--pattern", "4:4"], "pattern 4:4: of 4 weights 1 to 3 can be kept"),
        (["--pattern", "3x3", "--sparsity", "0.5"], "Blocks of 3x3 do not divide"),
        (["--pattern", "stripes", "--sparsity", "0.5"], "pattern 'stripes' is not known"),
        (["--pattern", "16x16", "--sparsity", "0.9"], "Nothing would be left of"),
        (["--scope", "layers", "--sparsity", "0.5"], "scope = 'layers' is not known"),
        (["--method", "hope", "--sparsity", "0.5"], "method = 'hope' is not known"),
        (["--method", "movement", "--sparsity", "0.5"], "this command does not train. Add the block [pruning]"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(saved, tmp_path, options, words):
    result = run("prune", saved, tmp_path / "out", *options)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    says(result, words)
    assert not (tmp_path / "out").exists()


def test_a_pipeline_without_an_encoder_is_refused(tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path / "nlp")
    result = run("prune", tmp_path / "nlp", tmp_path / "out", "--sparsity", "0.5")
    assert result.exit_code == 1
    says(result, "no DistilBERT or BERT encoder in the pipeline")


def test_a_path_that_is_no_pipeline_is_refused(tmp_path):
    result = run("prune", tmp_path / "nowhere", tmp_path / "out", "--sparsity", "0.5")
    assert result.exit_code == 1
    says(result, "Can't prune")


def test_a_folder_that_is_there_is_overwritten_only_by_force(saved, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    assert run("prune", saved, tmp_path / "out", "--sparsity", "0.5").exit_code == 1
    assert (tmp_path / "out" / "file").exists()
    assert run("prune", saved, tmp_path / "out", "--sparsity", "0.5", "--force").exit_code == 0
    assert not (tmp_path / "out" / "file").exists()
