"""`python -m spacy distil bench-generation`, as the command line calls it."""

from __future__ import annotations

from pathlib import Path

import srsly
import torch
from spacy.cli._util import app
from typer.testing import CliRunner

import spacy_distil.cli  # noqa: F401  registers the command, as spaCy's entry point does
from spacy_distil.evaluation.generation import Task, own_run, transformers_run

TINY = Task(
    layers=1,
    decoder_layers=1,
    width=32,
    heads=4,
    neurons=48,
    source_vocabulary=50,
    vocabulary=40,
    texts=5,
    batch_size=2,
)


def test_both_write_all_texts_in_full_length() -> None:
    assert own_run(TINY, torch.float32)() == transformers_run(TINY, torch.float32)() == 5 * 16


def test_the_command_writes_what_it_measured(tmp_path: Path) -> None:
    options = [
        "--texts",
        "2",
        "--batch-size",
        "2",
        "--length",
        "2",
        "--layers",
        "1",
        "--decoder-layers",
        "1",
        "--rounds",
        "1",
    ]
    result = CliRunner().invoke(app, ["distil", "bench-generation", *options, "--output", str(tmp_path / "out.json")])
    assert result.exit_code == 0, result.output
    written = srsly.read_json(tmp_path / "out.json")
    assert written["task"]["texts"] == 2
    assert {"transformers, float32", "spacy-distil, float32"} <= written["pieces_per_second"].keys()
    assert "pieces per second" in result.output
