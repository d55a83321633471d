"""`python -m spacy distil slim`, as the command line calls it, and training on what it writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy

from spacy_distil.cli.train import train
from spacy_distil.compression.encoders import set_precision
from tests.cli.test_import import run, says
from tests.compression.conftest import nlp
from tests.conftest import TEXTS
from tests.distillation.toy import write_corpus
from tests.pipeline.conftest import build

__all__ = ["build", "nlp"]


@pytest.fixture
def pipeline(nlp, tmp_path) -> Path:
    nlp.to_disk(tmp_path / "nlp")
    return tmp_path / "nlp"


@pytest.fixture
def texts(tmp_path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(text for text in TEXTS if "\u0001" not in text) + "\n", encoding="utf8")
    return path


def test_it_writes_a_smaller_pipeline_and_says_what_went(pipeline, texts, tmp_path):
    result = run("slim", pipeline, tmp_path / "out", texts, "--compute", "0.5", "--layers", "0,1,3", "--vocabulary")
    assert result.exit_code == 0, result.output
    says(
        result,
        "Encoder: distilbert",
        "4 -> 0",
        "48 -> 0",
        "Measuring importance on 4 texts",
        "parameters",
        "size on disk",
    )
    says(result, f"python -m spacy distil train {tmp_path / 'out' / 'retrain.cfg'}")
    config = spacy.load(tmp_path / "out").get_pipe("distilbert").shim.encoder.config
    assert len(config.layers) == 3
    assert config.vocab_size < 230
    size = {name: (tmp_path / name / "distilbert" / "model.safetensors").stat().st_size for name in ("nlp", "out")}
    assert size["out"] < 0.8 * size["nlp"]
    assert {path.name for path in tmp_path.iterdir()} == {"nlp", "out", "texts.txt"}


def test_the_same_call_removes_the_same(pipeline, texts, tmp_path):
    for name in ("one", "other"):
        assert run("slim", pipeline, tmp_path / name, texts, "--compute", "0.5").exit_code == 0
    one, other = (tmp_path / name / "distilbert" / "model.safetensors" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def test_what_it_writes_is_trained_on_under_the_whole_pipeline(pipeline, nlp, texts, tmp_path):
    assert run("slim", pipeline, tmp_path / "out", texts, "--compute", "0.5").exit_code == 0
    docs = [nlp.make_doc(text) for text in TEXTS]
    write_corpus(tmp_path / "texts.spacy", docs)
    corpus = str(tmp_path / "texts.spacy")
    student = train(
        tmp_path / "out" / "retrain.cfg",
        tmp_path / "retrained",
        overrides={
            "paths.train": corpus,
            "paths.dev": corpus,
            "training.max_steps": 4,
            "training.eval_frequency": 2,
            "training.optimizer.learn_rate": 0.01,
        },
    )
    slimmed, best = spacy.load(tmp_path / "out"), spacy.load(tmp_path / "retrained" / "model-last")
    shims = [pipe.get_pipe("distilbert").shim for pipe in (slimmed, best, student)]
    assert len({shim.encoder.config for shim in shims}) == 1
    assert shims[0].to_bytes() != shims[1].to_bytes()
    assert "teacher" not in best.config.to_str().replace("teacher = null", "")


def test_a_folder_that_is_there_is_overwritten_by_force_alone(pipeline, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    says(run("slim", pipeline, tmp_path / "out", "--layers", "0"), "is there already", "--force")
    assert run("slim", pipeline, tmp_path / "out", "--layers", "0", "--force").exit_code == 0
    assert not (tmp_path / "out" / "old").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Nothing is to be removed"),
        (["--compute", "2"], "compute = 2.0"),
        (["--compute", "0.01"], "a layer would lose all its heads"),
        (["--compute", "0.5", "--layers", "0,9"], "one of 0 to 3"),
        (["--layers", "first"], "Name layers by their numbers"),
        (["--vocabulary", "--coverage", "0"], "coverage = 0.0"),
        (["--compute", "0.5", "--coverage", "0.9"], "--coverage 0.9"),
        (["--compute", "0.5", "--gpu-id", "99"], "--gpu-id 99"),
    ],
)
def test_what_can_not_be_done_is_said_and_nothing_written(pipeline, texts, arguments, message, tmp_path):
    result = run("slim", pipeline, tmp_path / "out", texts, *arguments)
    assert result.exit_code == 1
    says(result, message)
    assert {path.name for path in tmp_path.iterdir()} == {"nlp", "texts.txt"}


def test_a_pipeline_in_int8_is_refused(nlp, tmp_path):
    set_precision(nlp, "int8")
    nlp.to_disk(tmp_path / "nlp")
    says(run("slim", tmp_path / "nlp", tmp_path / "out", "--layers", "0"), "'distilbert' is in int8", "does not learn")
    assert {path.name for path in tmp_path.iterdir()} == {"nlp"}


def test_what_is_missing_is_said(pipeline, tmp_path):
    says(run("slim", pipeline, tmp_path / "out", "--compute", "0.5"), "name one")
    says(run("slim", pipeline, tmp_path / "out", tmp_path / "no.txt", "--compute", "0.5"), "no file or folder")
    says(run("slim", tmp_path / "nowhere", tmp_path / "out", "--layers", "0"), "Can't load", "nowhere")
    spacy.blank("en").to_disk(tmp_path / "blank")
    says(run("slim", tmp_path / "blank", tmp_path / "out", "--layers", "0"), "no DistilBERT or BERT encoder")
