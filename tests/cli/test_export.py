"""`python -m spacy distil export`, as the command line calls it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import spacy
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
    (difference,) = re.findall(r"at\s+most\s+([-.e0-9]+)", result.output)
    assert 0 < float(difference) < 1e-4


@pytest.mark.parametrize("model_type", ["distilbert", "bert"])
def test_onnx_is_one_file_that_says_what_the_component_says(save_head, model_type, tmp_path):
    nlp, _ = import_model(str(save_head(model_type, "TokenClassification", labels=TAGS)), precision="bfloat16")
    nlp.to_disk(tmp_path / "nlp")
    result = run("export", tmp_path / "nlp", tmp_path / "out", "--onnx")
    assert result.exit_code == 0, result.output
    (difference,) = re.findall(r"at\s+most\s+([-.e0-9]+)", result.output)
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
    says(result, "In ONNX Runtime the outputs differ from those of textcat_exclusive by")
    assert {path.name for path in tmp_path.iterdir()} == {"nlp"}


def test_of_a_component_without_a_class_it_is_said_that_the_encoder_is_written_and_compared(
    distilbert_folder, tmp_path
):
    import_model(str(distilbert_folder))[0].to_disk(tmp_path / "encoder")
    nlp = spacy.load(tmp_path / "encoder")
    listener = {"@architectures": "spacy-distil.DistilBertListener.v1"}
    model = {"@architectures": "spacy.TextCatReduce.v1", "exclusive_classes": True, "tok2vec": listener}
    model |= {"use_reduce_first": False, "use_reduce_last": False, "use_reduce_max": False, "use_reduce_mean": True}
    nlp.add_pipe("textcat", name="sentiment", config={"model": model})
    nlp.config["initialize"]["components"]["sentiment"] = {"labels": TOPICS}
    nlp.initialize()
    nlp.to_disk(tmp_path / "nlp")
    result = run("export", tmp_path / "nlp", tmp_path / "out", "--component", "sentiment", "--onnx")
    assert result.exit_code == 0, result.output
    says(
        result, "no head for 'sentiment'", "the encoder of sentiment as DistilBertModel", "differs from the encoder by"
    )
    assert "component by" not in result.output


@pytest.mark.parametrize(
    ("head", "why"), [("Model", "the only encoder"), ("MaskedLM", "the only component with a head")]
)
def test_the_component_that_was_chosen_is_named(save_head, distilbert_folder, head, why, tmp_path):
    folder = distilbert_folder if head == "Model" else save_head("distilbert", head)
    nlp, _ = import_model(str(folder))
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path / "nlp")
    (name,) = (name for name in nlp.pipe_names if name != "sentencizer")
    says(run("export", tmp_path / "nlp", tmp_path / "out"), f"Writes {name}, {why}")
    assert "Writes" not in run("export", tmp_path / "nlp", tmp_path / "again", "--component", name).output


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
