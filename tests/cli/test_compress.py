"""`python -m spacy distil compress`, as the command line calls it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import spacy
from safetensors import SafetensorError

from spacy_distil.compression.budget import multiply_adds
from spacy_distil.compression.search import report
from spacy_distil.distillation.teacher import load_teacher
from tests.cli.test_import import run, says
from tests.compression.conftest import nlp
from tests.compression.search.test_workshop import labelled, no_teacher_is_kept, pipeline, short_rounds
from tests.pipeline.conftest import build

__all__ = ["build", "labelled", "nlp", "no_teacher_is_kept", "pipeline", "short_rounds"]
STEPS = ("--training.max_steps", "2", "--training.eval_frequency", "2", "--training.optimizer.learn_rate", "0.01")


@pytest.fixture
def compress(pipeline, labelled, tmp_path):
    def compress(*options: object):
        return run(
            "compress", pipeline, labelled, tmp_path / "out", "--dev", labelled, "-p", "auto,bfloat16", *STEPS, *options
        )

    return compress


def test_distil_prune_and_round_are_one_command(compress, tmp_path):
    result = compress("--layers", "2", "--compute", "0.5", "--vocabulary")
    assert result.exit_code == 0, result.output
    says(result, "Trials", "whole", "Made: 2-layers-50-bfloat16", "Where its time goes: ")
    out = tmp_path / "out"
    assert {"model-best", "report.html", "report.json", "report.md", "pareto.png"} <= {p.name for p in out.iterdir()}
    best, whole = spacy.load(out / "model-best"), spacy.load(tmp_path / "nlp")
    one, other = (nlp.get_pipe("distilbert").shim for nlp in (best, whole))
    assert len(one.encoder.config.layers) == 2
    assert multiply_adds(one.encoder.config) <= 0.25 * multiply_adds(other.encoder.config)
    assert one.encoder.config.vocab_size < other.encoder.config.vocab_size
    assert one.storage == "bfloat16"
    assert best("The film was great.").cats


def test_a_target_that_is_reached(compress, tmp_path):
    result = compress("--size", "250kB", "--max-drop", "90", "--trials", "2")
    assert result.exit_code == 0, result.output
    says(result, "Inside the limits")
    about = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf8"))
    chosen = next(trial for trial in about["trials"] if trial["name"] == about["chosen"])
    assert chosen["cost"]["disk"] <= 250_000
    shim = spacy.load(tmp_path / "out" / "model-best").get_pipe("distilbert").shim
    assert len(shim.encoder.config.layers) == chosen["shape"]["layers"]


def test_a_target_out_of_reach_says_what_would_be_nearest(compress, tmp_path):
    result = compress("--size", "1kB", "--no-plot")
    assert result.exit_code == 1
    says(result, "No shape is fast or small enough.", "would have")
    assert (tmp_path / "out" / "report.md").exists()
    assert not (tmp_path / "out" / "pareto.png").exists()


def test_what_an_earlier_run_chose_goes_where_nothing_is_inside_the_limits(compress, tmp_path):
    assert compress("--layers", "1", "--compute", "1", "--max-drop", "99").exit_code == 0
    assert (tmp_path / "out" / "model-best").exists()
    result = compress("--resume", "--layers", "1", "--compute", "1", "--speedup", "1000", "--no-plot")
    assert result.exit_code == 1
    says(result, "No pipeline is inside the limits. Nearest: 1-layer")
    assert not (tmp_path / "out" / "model-best").exists()
    assert not (tmp_path / "out" / "pareto.png").exists()


def test_force_takes_nothing_away_before_all_is_checked(compress, pipeline, tmp_path):
    assert compress("--layers", "1", "--compute", "1").exit_code == 0
    load_teacher.cache_clear()
    result = run("compress", pipeline, tmp_path / "none.txt", tmp_path / "out", "--max-drop", "1", "--force")
    assert result.exit_code == 1
    assert (tmp_path / "out" / "model-best").exists()
    inside = run("compress", pipeline, tmp_path / "labelled.spacy", tmp_path, "--max-drop", "1", "--force")
    assert inside.exit_code == 1
    says(inside, "lie one in the other")
    assert Path(pipeline).exists()


def test_a_second_run_needs_resume_and_does_not_train_again(compress, tmp_path):
    assert compress("--layers", "1", "--compute", "1").exit_code == 0
    refused = compress("--layers", "1", "--compute", "1")
    assert refused.exit_code == 1
    says(refused, "is there already")
    load_teacher.cache_clear()
    again = compress("--layers", "1,2", "--compute", "1", "--resume")
    assert again.exit_code == 0, again.output
    assert "Making 1-layer" not in again.output
    says(again, "Making 2-layers")
    fresh = compress("--layers", "1", "--compute", "1", "--force")
    says(fresh, "Making 1-layer")
    assert not (tmp_path / "out" / "trials" / "2-layers").exists()


def test_a_config_holds_what_the_options_may_overrule(compress, tmp_path):
    config = tmp_path / "compression.cfg"
    config.write_text(
        '[compression]\nlayers = [2]\ncompute = [1.0]\nprecisions = ["bfloat16"]\n\n'
        "[distillation]\ntemperature = 3.0\n\n[training]\nseed = 7\n",
        encoding="utf8",
    )
    result = compress("--config", config, "--layers", "1")
    assert result.exit_code == 0, result.output
    says(result, "1-layer-bfloat16")
    assert "2-layers" not in result.output
    search = json.loads((tmp_path / "out" / "search.json").read_text(encoding="utf8"))
    assert search["[distillation]"] == {"temperature": 3.0}
    assert spacy.load(tmp_path / "out" / "model-best").config["training"]["seed"] == 7
    assert spacy.load(tmp_path / "out" / "model-best").config["training"]["max_steps"] == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "There is no target"),
        (("--size", "large"), "write it as in 40MB"),
        (("--layers", "two", "--compute", "1"), "Name numbers with commas between."),
        (("--layers", "12", "--compute", "1"), "the pipeline's encoder has 4 layers"),
        (("--max-drop", "1", "--tries", "3"), "Overrides have a dot"),
        (("--max-drop", "1", "--training.max_stepz", "3"), "[training] has no field 'max_stepz'"),
        (("--max-drop", "1", "--trainng.max_steps", "3"), "[trainng] has no place here"),
        (("--max-drop", "1", "--training.max_steps.most", "3"), "is a value, and no block"),
        (("--max-drop", "1", "--compression.trials", "0"), "trials = 0"),
        (("--max-drop", "1", "-p", "int4"), "'int4' is not known"),
    ],
)
def test_what_can_not_be_done_is_said_before_anything_is_written(compress, options, words, tmp_path):
    result = compress(*options)
    assert result.exit_code == 1
    says(result, words)
    assert not (tmp_path / "out").exists()


NO_SPACE = "No space left on device"


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (safetensors.torch, "save_file", SafetensorError(NO_SPACE)),
        (shutil, "copytree", shutil.Error([("from", "to", NO_SPACE)])),
        (report, "write_report", OSError(NO_SPACE)),
    ],
)
def test_a_disk_that_is_full_is_said_and_leaves_nothing_half(compress, owner, name, error, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(owner, name, full)
    result = compress("--layers", "1", "--compute", "1", "--no-plot")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    says(result, NO_SPACE)
    left = [path.name for path in (tmp_path / "out").rglob("*")]
    assert ("model-best" in left) == (name == "write_report")
    assert not [path for path in left if path.startswith(".")]


def test_no_pipeline_and_no_corpus(pipeline, tmp_path):
    result = run("compress", tmp_path / "none", tmp_path / "none.txt", tmp_path / "out", "--max-drop", "1")
    assert result.exit_code == 1
    says(result, "is no pipeline")
    result = run("compress", pipeline, Path(tmp_path / "none.txt"), tmp_path / "out", "--max-drop", "1")
    assert result.exit_code == 1
    says(result, "none.txt")
