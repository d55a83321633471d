"""The encoder written back as a Hugging Face folder."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertForMaskedLM, BertModel, DistilBertModel

from spacy_distil.encoder.checkpoint import load_checkpoint, write_checkpoint
from spacy_distil.encoder.config import LayerConfig
from spacy_distil.encoder.module import DistilBertEncoder
from spacy_distil.errors import CheckpointError
from tests.conftest import TEXTS, SaveCheckpoint
from tests.encoder.reference import transformers_model


def write(folder: Path, target: Path, **options) -> DistilBertEncoder:
    checkpoint = load_checkpoint(str(folder), **options)
    encoder = checkpoint.build()
    write_checkpoint(target, encoder, checkpoint.tokenizer)
    return encoder


@torch.no_grad()
def assert_same_outputs(folder: Path, target: Path) -> None:
    """transformers reads model and tokenizer of both folders, and can't tell them apart."""
    original, written = transformers_model(folder), transformers_model(target)
    assert type(original) is type(written)
    for text in TEXTS:
        inputs = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
        again = AutoTokenizer.from_pretrained(target)(text, return_tensors="pt")
        assert inputs.keys() == again.keys()
        assert all(torch.equal(inputs[key], again[key]) for key in inputs)
        expected, actual = original(**inputs), written(**again)
        assert expected.keys() == actual.keys()
        assert all(torch.equal(expected[key], actual[key]) for key in expected)


@pytest.mark.parametrize("cased", [False, True])
@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
def test_transformers_loads_what_is_written_with_equal_outputs(
    save_checkpoint: SaveCheckpoint, tmp_path, model_type, cased
):
    folder = save_checkpoint(model_type, cased=cased)
    write(folder, tmp_path / "new" / "written")
    assert_same_outputs(folder, tmp_path / "new" / "written")


def test_nothing_is_left_to_chance_when_transformers_loads_it(folder, tmp_path):
    """No parameter is missing, which transformers would fill at random, and none is unknown."""
    write(folder, tmp_path / "written")
    _, report = AutoModel.from_pretrained(tmp_path / "written", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]


def test_a_pooler_is_written_back(bert_folder, tmp_path):
    write(bert_folder, tmp_path / "written")
    inputs = torch.tensor([[2, 30, 40, 3]])
    expected = transformers_model(bert_folder)(inputs).pooler_output
    assert torch.equal(transformers_model(tmp_path / "written")(inputs).pooler_output, expected)


def test_the_student_of_a_bert_is_written_as_a_distilbert(bert_folder, tmp_path):
    write(bert_folder, tmp_path / "written", layers=[0, 2])
    written, inputs = transformers_model(tmp_path / "written"), torch.tensor([[2, 30, 40, 3]])
    assert isinstance(written, DistilBertModel)
    original = transformers_model(bert_folder)
    assert isinstance(original, BertModel)
    original.encoder.layer = torch.nn.ModuleList([original.encoder.layer[0], original.encoder.layer[2]])
    expected = original(inputs).last_hidden_state
    torch.testing.assert_close(written(inputs).last_hidden_state, expected, rtol=1e-5, atol=1e-5)


def test_the_encoder_of_a_task_is_written_without_the_task(save_checkpoint: SaveCheckpoint, tmp_path):
    folder = save_checkpoint("bert", model=BertForMaskedLM.from_pretrained(save_checkpoint("bert")))
    write(folder, tmp_path / "written")
    torch.testing.assert_close(
        transformers_model(tmp_path / "written")(torch.tensor([[2, 9, 3]])).last_hidden_state,
        transformers_model(folder)(torch.tensor([[2, 9, 3]])).last_hidden_state,
    )


def test_what_is_written_is_read_again(folder, tmp_path):
    encoder = write(folder, tmp_path / "written")
    again = load_checkpoint(str(tmp_path / "written"))
    assert again.config == encoder.config
    assert all(torch.equal(value, again.weights[key]) for key, value in encoder.state_dict().items())


def test_an_empty_folder_is_filled(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    write(folder, tmp_path / "empty")
    assert load_checkpoint(str(tmp_path / "empty"))


def test_a_folder_with_something_in_it_is_left_as_it_is(folder, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for target in (tmp_path / "full", tmp_path / "file"):
        with pytest.raises(CheckpointError, match=r"exists already and is not empty\. Name another folder"):
            write(folder, target)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full", "mine.txt"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_nothing_behind(folder, tmp_path, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(type(error)):
        write(folder, tmp_path / "written")
    assert not os.listdir(tmp_path)


def test_a_pruned_encoder_is_refused_before_anything_is_written(folder, tmp_path):
    checkpoint = load_checkpoint(str(folder))
    layers = (LayerConfig(2, 48), *checkpoint.config.layers[1:])
    pruned = DistilBertEncoder(replace(checkpoint.config, layers=layers))
    with pytest.raises(CheckpointError, match="Hugging Face config"):
        write_checkpoint(tmp_path / "written", pruned, checkpoint.tokenizer)
    assert not os.listdir(tmp_path)
