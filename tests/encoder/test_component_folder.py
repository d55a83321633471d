"""An encoder starts from the component of a saved pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
import torch
from spacy.language import Language

from spacy_distil.encoder.checkpoint import load_checkpoint
from spacy_distil.errors import CheckpointError


def pipeline(checkpoint: Path, names: list[str], path: Path) -> Language:
    nlp = spacy.blank("en")
    for name in names:
        nlp.add_pipe("distilbert", name=name, config={"model": {"name": str(checkpoint), "precision": "float32"}})
    nlp.add_pipe("sentencizer")
    nlp.initialize()
    for name in names:
        for parameter in nlp.get_pipe(name).shim.encoder.parameters():
            parameter.data += 0.01  # fine-tuned: no longer the checkpoint's
    nlp.to_disk(path)
    return nlp


@pytest.mark.parametrize("sub", ["", "encoder"])
def test_a_student_starts_from_a_trained_encoder(folder, tmp_path, sub):
    nlp = pipeline(folder, ["encoder"], tmp_path / "model-best")
    student = spacy.blank("en")
    name = str(tmp_path / "model-best" / sub)
    student.add_pipe("distilbert", config={"model": {"name": name, "precision": "float32"}})
    student.initialize()
    text = "The film was great."
    torch.testing.assert_close(torch.tensor(student(text).tensor), torch.tensor(nlp(text).tensor))


def test_some_of_its_layers_are_kept(folder, tmp_path):
    nlp = pipeline(folder, ["encoder"], tmp_path / "model")
    checkpoint, whole = load_checkpoint(str(tmp_path / "model"), layers=[1, 3]), nlp.get_pipe("encoder").shim.encoder
    student = checkpoint.build()
    assert checkpoint.config.model_type == "distilbert"
    for kept, layer in enumerate([1, 3]):
        for (_, ours), (_, theirs) in zip(
            student.layers[kept].named_parameters(), whole.layers[layer].named_parameters(), strict=True
        ):
            assert torch.equal(ours, theirs)
    with pytest.raises(CheckpointError, match=r"`layers` = \[4\] asks for layer 4.*has the layers 0 to 3"):
        load_checkpoint(str(tmp_path / "model"), layers=[4])


def test_the_digest_is_that_of_the_components_file(distilbert_folder, tmp_path):
    pipeline(distilbert_folder, ["encoder"], tmp_path / "model")
    with pytest.raises(CheckpointError, match="has the SHA-256 digest"):
        load_checkpoint(str(tmp_path / "model"), sha256="0" * 64)


def test_a_pipeline_with_no_encoder_or_several_is_an_error(distilbert_folder, tmp_path):
    pipeline(distilbert_folder, ["one", "other"], tmp_path / "several")
    pipeline(distilbert_folder, [], tmp_path / "none")
    with pytest.raises(
        CheckpointError, match=r"several encoders: 'one', 'other'. Name the folder of one, such as .*one'"
    ):
        load_checkpoint(str(tmp_path / "several"))
    with pytest.raises(CheckpointError, match="no component `distilbert`"):
        load_checkpoint(str(tmp_path / "none"))
    assert load_checkpoint(str(tmp_path / "several" / "other")).config.width == 32


def test_a_damaged_component_is_an_error(distilbert_folder, tmp_path):
    pipeline(distilbert_folder, ["encoder"], tmp_path / "model")
    weights = tmp_path / "model" / "encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    for folder in (tmp_path / "model", tmp_path / "model" / "encoder"):
        with pytest.raises(CheckpointError, match="truncated or damaged"):
            load_checkpoint(str(folder))
