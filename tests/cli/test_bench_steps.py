"""`python -m spacy distil bench-steps`, as the command line calls it."""

from pathlib import Path

import pytest
import srsly
from spacy.cli._util import app
from typer.testing import CliRunner, Result

import spacy_distil.cli  # noqa: F401  registers the command
from spacy_distil.distillation.teacher import Teacher
from tests.distillation.toy import config


@pytest.fixture
def run(teacher_path, corpus, tmp_path):
    (tmp_path / "student.cfg").write_text(config(shared=False))

    def call(*more: str) -> Result:
        paths = ["--paths.train", str(corpus / "train.spacy"), "--paths.dev", str(corpus / "dev.spacy")]
        command = [
            "distil",
            "bench-steps",
            str(tmp_path / "student.cfg"),
            "--teacher",
            str(teacher_path),
            "--steps",
            "2",
        ]
        return CliRunner().invoke(app, [*command, *paths, *more])

    return call


def test_each_kind_of_step_is_timed(run, tmp_path: Path):
    result = run("--output", str(tmp_path / "steps.json"))
    assert result.exit_code == 0, result.output
    seconds = srsly.read_json(tmp_path / "steps.json")["seconds"]
    assert set(seconds) == {"plain", "teacher", "distilled", "warm"}
    assert all(value > 0 for value in seconds.values())
    for row in ("plain step of the student", "distillation, cache warm"):
        assert row in result.output


def test_teacher_is_timed_without_the_cache_that_the_config_has(run, tmp_path: Path, monkeypatch):
    block = f'\n[distillation]\n[distillation.cache]\nfolder = "{tmp_path / "cache"}"\n'
    (tmp_path / "student.cfg").write_text((tmp_path / "student.cfg").read_text() + block)
    annotate, runs = Teacher.annotate, []
    monkeypatch.setattr(Teacher, "annotate", lambda self, *args: runs.append(self.store) or annotate(self, *args))
    assert run().exit_code == 0
    assert runs.count(None) >= 2 * 3  # the teacher alone and the distillation, on three batches


def test_bad_config_is_a_message(run):
    result = run("--distillation.temperature", "0")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
