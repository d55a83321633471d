"""Outputs that would overwrite an input, and a disk that does not take what commands write."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import spacy
from safetensors import SafetensorError
from spacy.language import Language

from tests.cli.test_import import run, says
from tests.compression.conftest import nlp
from tests.pipeline.conftest import build

__all__ = ["build", "nlp"]


def full(tensors: object, path: Path, metadata: object = None) -> None:
    Path(path).write_bytes(b"half")
    raise SafetensorError("I/O error: No space left on device (os error 28)")


def not_allowed(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


QUANTIZE, PRUNE = ("quantize", "--precision", "bfloat16"), ("prune", "--sparsity", "0.5")
SLIM, EXPORT = ("slim", "--layers", "0,2"), ("export", "--component", "distilbert")
NO_ROOM = (safetensors.torch, "save_file", full, "No space left on device")
NO_RIGHT = (Language, "to_disk", not_allowed, "Permission denied")


@pytest.mark.parametrize(
    ("command", "fails"),
    [(QUANTIZE, NO_ROOM), (QUANTIZE, NO_RIGHT), (PRUNE, NO_ROOM), (SLIM, NO_ROOM), (SLIM, NO_RIGHT), (EXPORT, NO_ROOM)],
)
def test_it_is_said_and_nothing_is_left(nlp, command, fails, tmp_path, monkeypatch):
    nlp.to_disk(tmp_path / "nlp")
    owner, name, function, words = fails
    monkeypatch.setattr(owner, name, function)
    result = run(command[0], tmp_path / "nlp", tmp_path / "out", *command[1:])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    says(result, "can't be written", words, "Make room if the disk is full")
    assert {path.name for path in tmp_path.iterdir()} == {"nlp"}


@pytest.mark.parametrize("command", [QUANTIZE, PRUNE, SLIM])
@pytest.mark.parametrize("output", ["", "nlp", "nlp/inside"])
def test_the_pipeline_that_a_step_starts_from_stays(nlp, command, output, tmp_path):
    nlp.to_disk(tmp_path / "nlp")
    result = run(command[0], tmp_path / "nlp", tmp_path / output, *command[1:], "--force")
    assert result.exit_code == 1
    says(result, "lie one in the other", "Name a folder of its own for the output.")
    assert {path.name for path in tmp_path.iterdir()} == {"nlp"}
    assert (
        spacy.load(tmp_path / "nlp").get_pipe("distilbert").shim.to_bytes()
        == nlp.get_pipe("distilbert").shim.to_bytes()
    )
