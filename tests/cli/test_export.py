"""`python -m spacy distil export`, as the command line calls it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from transformers import pipeline

from spacy_distil.hub.importing import import_model
from tests.cli.test_import import run, says
from tests.conftest import TEXTS
from tests.hub.conftest import TAGS, TOPICS, save_head

__all__ = ["save_head"]


@pytest.fixture
def classifier(save_head, tmp_path) -> Path:
    nlp, _ = import_model(str(save_head("distilbert", "SequenceClassification", labels=TOPICS)))
    nlp.to_disk(tmp_path / "nlp")
    return tmp_path / "nlp"


def test_it_writes_a_folder_that_transformers_loads(classifier, tmp_path):
    result = run("export", classifier, tmp_path / "out")
    assert result.exit_code == 0, result.output
    says(result, "textcat_exclusive as DistilBertForSequenceClassification")
    assert pipeline("text-classification", model=str(tmp_path / "out"))(TEXTS[0])[0]["label"] in TOPICS
    assert not (tmp_path / "out" / "model.onnx").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"nlp", "out"}


@pytest.mark.parametrize("head", ["SequenceClassification", "QuestionAnswering", "MaskedLM", "Model"])
def test_every_head_is_checked_in_onnx(save_head, distilbert_folder, head, tmp_path):
    labels = {"labels": TOPICS} if head == "SequenceClassification" else {}
    folder = distilbert_folder if head == "Model" else save_head("distilbert", head, **labels)
    import_model(str(folder))[0].to_disk(tmp_path / "nlp")
    result = run("export", tmp_path / "nlp", tmp_path / "out", "--onnx")
    assert result.exit_code == 0, result.output
    (difference,) = re.findall(r"at most ([-.e0-9]+)", result.output)
    assert 0 < float(difference) < 1e-4


@pytest.mark.parametrize("model_type", ["distilbert", "bert"])
def test_onnx_is_one_file_that_says_what_the_component_says(save_head, model_type, tmp_path):
    nlp, _ = import_model(str(save_head(model_type, "TokenClassification", labels=TAGS)), precision="bfloat16")
    nlp.to_disk(tmp_path / "nlp")
    result = run("export", tmp_path / "nlp", tmp_path / "out", "--onnx")
    assert result.exit_code == 0, result.output
    (difference,) = re.findall(r"at most ([-.e0-9]+)", result.output)
    assert 0 < float(difference) < 1e-5
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    types = ["token_type_ids"] if model_type == "bert" else []
    assert [value.name for value in session.get_inputs()] == ["input_ids", "attention_mask", *types]
    assert [value.name for value in session.get_outputs()] == ["logits"]
    for size in ((1, 1), (3, 64)):
        values = {value.name: [[1] * size[1]] * size[0] for value in session.get_inputs()}
        assert session.run(None, values)[0].shape == (*size, len(TAGS))
    assert not list((tmp_path / "out").glob("*.data"))


def test_a_model_that_says_something_else_is_not_left_behind(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr("spacy_distil.hub.exporting.write_onnx", lambda *arguments: None)
    other = {"logits": np.array([9.0, 0.0, 0.0])}
    monkeypatch.setattr("spacy_distil.hub.exporting.load_onnx", lambda *arguments: lambda text: other)
    result = run("export", classifier, tmp_path / "out", "--onnx")
    assert result.exit_code == 1
    says(result, "ONNX Runtime's outputs for 'textcat_exclusive' differ")
    assert {path.name for path in tmp_path.iterdir()} == {"nlp"}


def test_a_missing_package_names_the_extra(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr("spacy_distil.hub.onnx.find_spec", lambda package: None)
    result = run("export", classifier, tmp_path / "out", "--onnx")
    assert result.exit_code == 1
    says(result, "pip install 'spacy-distil[onnx]'")


def test_a_folder_that_is_there_is_overwritten_by_force_alone(classifier, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    says(run("export", classifier, tmp_path / "out"), "is there already", "--force")
    assert run("export", classifier, tmp_path / "out", "--force").exit_code == 0
    assert not (tmp_path / "out" / "old").exists()


def test_what_is_wrong_is_said(classifier, tmp_path):
    says(run("export", classifier, tmp_path / "out", "--component", "ner"), "no component 'ner'", "textcat_exclusive")
    says(run("export", tmp_path / "nowhere", tmp_path / "out"), "Can't load", "nowhere")
    assert not (tmp_path / "out").exists()
