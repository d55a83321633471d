"""Pipelines in int8: small files that load as they were saved, run, and compose with pruning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import spacy
import torch
from safetensors import safe_open
from thinc.api import Adam

from spacy_distil.compression.encoders import set_precision
from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.quantization import quantize
from spacy_distil.compression.sparsity.magnitude import prune
from spacy_distil.compression.sparsity.selection import Selection
from spacy_distil.compression.structured import LayerPart, keep_parts
from spacy_distil.encoder import calibration
from spacy_distil.encoder.checkpoint import load_checkpoint
from spacy_distil.encoder.saved import METADATA
from spacy_distil.encoder.shim import to_checkpoint
from spacy_distil.encoder.storage import dequantize_rows, quantize_rows
from spacy_distil.encoder.zeros import prunable
from spacy_distil.errors import CheckpointError, EncoderError
from tests.encoder.test_int8 import runs_here
from tests.pipeline.conftest import examples

TEXTS = ["the film was good", "a bad room and a kind staff", ""]


def vectors(nlp) -> list:
    return [doc.tensor for doc in nlp.pipe(TEXTS)]


def weights_file(folder: Path) -> Path:
    return folder / "distilbert" / "model.safetensors"


def about(folder: Path) -> dict:
    with safe_open(weights_file(folder), framework="pt") as file:
        return json.loads(file.metadata()[METADATA])


def reload(nlp, folder: Path):
    nlp.to_disk(folder)
    return spacy.load(folder)


@runs_here
@pytest.mark.parametrize("calibrated", [False, True])
def test_it_loads_as_it_was_saved_and_is_saved_the_same_again(nlp, corpus, tmp_path, calibrated):
    before = vectors(nlp)
    (encoder,) = quantize(nlp, "int8", corpus if calibrated else ()).values()
    assert encoder.calibrated == calibrated
    assert encoder.error > 0
    after = vectors(nlp)
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    loaded = reload(nlp, tmp_path / "one")
    assert loaded.config["components"]["distilbert"]["model"]["precision"] == "int8"
    assert loaded.meta["requirements"] == ["spacy-distil>=0.3.0"]
    shim = loaded.get_pipe("distilbert").shim
    assert (shim.storage, shim.calibration is not None) == ("int8", calibrated)
    assert not calibrated or shim.calibration.exponents.any()
    assert all((a == b).all() for a, b in zip(vectors(loaded), after, strict=True))
    loaded.to_disk(tmp_path / "two")
    assert weights_file(tmp_path / "two").read_bytes() == weights_file(tmp_path / "one").read_bytes()
    from_bytes = spacy.blank("en").from_config(loaded.config).from_bytes(loaded.to_bytes())
    assert all((a == b).all() for a, b in zip(vectors(from_bytes), after, strict=True))


def test_the_file_is_a_quarter_or_a_half(nlp, tmp_path):
    nlp.to_disk(tmp_path / "float32")
    quantize(nlp, "bfloat16")
    nlp.to_disk(tmp_path / "bfloat16")
    nlp.get_pipe("distilbert").shim.round_to("int8")
    nlp.to_disk(tmp_path / "int8")
    sizes = {}
    for folder in tmp_path.iterdir():
        stored = safetensors.torch.load_file(weights_file(folder))
        sizes[folder.name] = sum(value.nbytes for value in stored.values())
    assert sizes["bfloat16"] == sizes["float32"] / 2
    assert sizes["int8"] < 0.4 * sizes["float32"]  # rows of 32: a scale and a bias to each


def test_bfloat16_is_of_the_file_alone(nlp, tmp_path):
    precision = nlp.config["components"]["distilbert"]["model"]["precision"]
    weights = {key: value.clone() for key, value in nlp.get_pipe("distilbert").shim.encoder.state_dict().items()}
    quantize(nlp, "bfloat16")
    loaded = reload(nlp, tmp_path / "nlp")
    assert loaded.config["components"]["distilbert"]["model"]["precision"] == precision
    for key, value in loaded.get_pipe("distilbert").shim.encoder.state_dict().items():
        assert torch.equal(value, weights[key].bfloat16().float())
    assert all((a == b).all() for a, b in zip(vectors(loaded), vectors(nlp), strict=True))
    loaded.update(examples(loaded), sgd=Adam(0.01))  # learns, and is saved whole again
    loaded.to_disk(tmp_path / "trained")
    assert about(tmp_path / "trained")["format"] == "1"


def test_a_rounded_file_says_which_version_it_needs(nlp, tmp_path):
    quantize(nlp, "bfloat16")
    nlp.to_disk(tmp_path / "nlp")
    said = about(tmp_path / "nlp")
    assert (said["format"], said["needs"], said["storage"]) == ("3", "0.3.0", "bfloat16")


def test_a_rounded_pipeline_requires_the_version_that_reads_it(nlp, tmp_path):
    nlp.meta["requirements"] = ["other>=1.0", "spacy-distil>=0.1.0"]
    nlp.meta["performance"] = {"tag_acc": 0.9}
    quantize(nlp, "bfloat16")
    quantize(nlp, "bfloat16")
    assert not nlp.meta["performance"]
    assert reload(nlp, tmp_path / "nlp").meta["requirements"] == ["other>=1.0", "spacy-distil>=0.3.0"]


@runs_here
def test_zeros_take_no_place_in_int8(nlp, corpus, tmp_path):
    prune(nlp, Selection.read(0.8, scope="local", pattern=None, embeddings=False))
    pruned = {key: value == 0 for key, value in nlp.get_pipe("distilbert").shim.encoder.state_dict().items()}
    quantize(nlp, "int8", corpus)
    after = vectors(nlp)
    loaded = reload(nlp, tmp_path / "nlp")
    assert all((a == b).all() for a, b in zip(vectors(loaded), after, strict=True))
    stored = safetensors.torch.load_file(weights_file(tmp_path / "nlp"))
    values = stored["transformer.layer.0.ffn.lin1.weight.values"]
    assert values.dtype == torch.int8
    assert len(values) <= 0.2 * 48 * 32
    for key, value in loaded.get_pipe("distilbert").shim.encoder.state_dict().items():
        if key.startswith("transformer.") and value.dim() == 2:
            assert value[pruned[key]].eq(0).all()


@runs_here
def test_what_rounds_to_zero_was_not_pruned(nlp, corpus, tmp_path):
    prune(nlp, Selection.read(0.5, pattern="2x2"))
    shim = nlp.get_pipe("distilbert").shim
    pruned = {name: mask.clone() for name, mask in shim.zeros.pruned.items()}
    shim.encoder.embeddings.word_embeddings.weight.data[:, 0] = 100.0  # the others in its rows are small beside it
    quantize(nlp, "int8", corpus)
    assert (shim.encoder.embeddings.word_embeddings.weight == 0).any()
    nlp.to_disk(tmp_path / "int8")
    loaded = spacy.load(tmp_path / "int8", config={"components.distilbert.model.precision": "auto"})
    shim = loaded.get_pipe("distilbert").shim
    assert shim.zeros.pruned.keys() == pruned.keys()
    loaded.update(examples(loaded), sgd=Adam(0.01))
    assert (shim.encoder.embeddings.word_embeddings.weight[:, 1:] != 0).sum() > 0
    for name, parameter in prunable(shim.encoder, embeddings=False).items():
        assert parameter[pruned[name]].eq(0).all()


@runs_here
def test_int8_is_not_pruned_but_its_weights_are(nlp, corpus, tmp_path):
    quantize(nlp, "int8", corpus)
    selection = Selection.read(0.6)
    with pytest.raises(CompressionError, match="in int8, which does not learn"):
        prune(nlp, selection)
    nlp.to_disk(tmp_path / "int8")
    loaded = spacy.load(tmp_path / "int8", config={"components.distilbert.model.precision": "float32"})
    prune(loaded, selection)
    after = vectors(loaded)
    assert all((a == b).all() for a, b in zip(vectors(reload(loaded, tmp_path / "pruned")), after, strict=True))


def test_pruned_bfloat16_stays_so(nlp, tmp_path):
    quantize(nlp, "bfloat16")
    prune(nlp, Selection.read(0.6))
    after = vectors(nlp)
    loaded = reload(nlp, tmp_path / "pruned")
    assert loaded.get_pipe("distilbert").shim.storage == "bfloat16"
    assert all((a == b).all() for a, b in zip(vectors(loaded), after, strict=True))
    assert loaded.meta["requirements"] == ["spacy-distil>=0.3.0"]


@runs_here
def test_what_has_lost_parts_is_calibrated_no_more(nlp, corpus, tmp_path):
    quantize(nlp, "int8", corpus)
    shim = nlp.get_pipe("distilbert").shim
    shim.adopt(keep_parts(to_checkpoint(shim), (LayerPart(2, (0, 3), tuple(range(0, 48, 2))),)))
    assert shim.calibration is None
    assert shim.storage == "float32"  # its columns were rounded with powers of two that belonged to the calibration
    after = vectors(nlp)
    assert len(after[0]) == 4
    assert all((a == b).all() for a, b in zip(vectors(reload(nlp, tmp_path / "nlp")), after, strict=True))


@runs_here
def test_its_weights_train_on_in_another_precision(nlp, corpus, tmp_path):
    quantize(nlp, "int8", corpus)
    nlp.to_disk(tmp_path / "int8")
    options = {"components": {"distilbert": {"model": {"precision": "float32"}}}}
    loaded = spacy.load(tmp_path / "int8", config=options)
    losses = loaded.update(examples(loaded), sgd=Adam(0.01))
    assert losses["tagger"] > 0
    loaded.to_disk(tmp_path / "trained")
    assert about(tmp_path / "trained")["format"] == "1"
    assert load_checkpoint(str(tmp_path / "int8"), layers=[0, 2]).calibration is None


def test_what_it_can_not_do_is_said(nlp, corpus, tmp_path):
    with pytest.raises(CompressionError, match="precision = 'int4' is not known"):
        quantize(nlp, "int4")  # type: ignore[arg-type]
    with pytest.raises(CompressionError, match="A corpus calibrates int8"):
        quantize(nlp, "bfloat16", corpus)
    with pytest.raises(CompressionError, match="There is no DistilBERT or BERT encoder"):
        quantize(spacy.blank("en"), "bfloat16")


@runs_here
def test_auto_runs_the_very_weights_that_int8_runs(nlp, corpus, tmp_path):
    quantize(nlp, "int8", corpus)
    nlp.to_disk(tmp_path / "nlp")
    options = {"components": {"distilbert": {"model": {"precision": "auto"}}}}
    shim = spacy.load(tmp_path / "nlp", config=options).get_pipe("distilbert").shim
    weights = shim.encoder.state_dict()
    for name, value in nlp.get_pipe("distilbert").shim.encoder.state_dict().items():
        assert torch.equal(weights[name], value)
    multiplied = shim.calibration.multiplied(weights)
    for name in prunable(shim.encoder, embeddings=True):
        assert torch.equal(dequantize_rows(*quantize_rows(multiplied[name])), multiplied[name])


@runs_here
def test_without_texts_it_stays_calibrated(nlp, corpus, tmp_path):
    quantize(nlp, "int8", corpus)
    nlp.to_disk(tmp_path / "once")
    (encoder,) = quantize(nlp, "int8").values()
    assert encoder.calibrated
    ranges = [pipe.get_pipe("distilbert").shim.calibration.ranges for pipe in (nlp, spacy.load(tmp_path / "once"))]
    assert torch.equal(*ranges)
    after = vectors(nlp)
    assert all((a == b).all() for a, b in zip(vectors(reload(nlp, tmp_path / "twice")), after, strict=True))
    assert weights_file(tmp_path / "twice").read_bytes() == weights_file(tmp_path / "once").read_bytes()


@runs_here
def test_int8_does_not_become_larger(nlp, corpus):
    quantize(nlp, "int8", corpus)
    with pytest.raises(CompressionError, match="'distilbert' is in int8, half as large as in bfloat16"):
        quantize(nlp, "bfloat16")
    assert nlp.get_pipe("distilbert").shim.storage == "int8"


@runs_here
def test_files_with_ranges_alone_still_load(nlp, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "STRENGTH", 0.0)
    quantize(nlp, "int8", corpus)
    before = vectors(nlp)
    nlp.to_disk(tmp_path / "nlp")
    path, said = weights_file(tmp_path / "nlp"), about(tmp_path / "nlp")
    stored = safetensors.torch.load_file(path)
    del stored["input_exponents"], stored["neuron_copies"]
    safetensors.torch.save_file(stored, path, metadata={METADATA: json.dumps(said)})
    assert all((a == b).all() for a, b in zip(vectors(spacy.load(tmp_path / "nlp")), before, strict=True))


@pytest.mark.parametrize("damage", ["ranges", "exponents", "copies", "shape", "scale", "storage"])
def test_a_damaged_file_is_an_error(nlp, corpus, tmp_path, damage):
    shim = nlp.get_pipe("distilbert").shim
    shim.round_to("int8")
    with shim.calibrate():
        shim.predict([nlp.make_doc("the film")])
    nlp.to_disk(tmp_path / "nlp")
    path, said = weights_file(tmp_path / "nlp"), about(tmp_path / "nlp")
    stored = safetensors.torch.load_file(path)
    if damage == "ranges":
        stored["input_ranges"][0, 0, 0] = float("nan")
    elif damage == "exponents":
        stored["input_exponents"][1, 0, 5] = 100
    elif damage == "copies":
        stored["neuron_copies"][7] = 0
    elif damage == "shape":
        stored["neuron_copies"] = stored["neuron_copies"][1:].clone()
    elif damage == "scale":
        del stored["transformer.layer.0.ffn.lin1.weight.scale"]
    else:
        said["storage"] = "int4"
    safetensors.torch.save_file(stored, path, metadata={METADATA: json.dumps(said)})
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        spacy.load(tmp_path / "nlp")


def test_a_precision_is_that_of_all_encoders_wherever_it_is_loaded(nlp, tmp_path):
    set_precision(nlp, "bfloat16")
    assert nlp.get_pipe("distilbert").shim.dtype == torch.bfloat16
    assert reload(nlp, tmp_path / "nlp").get_pipe("distilbert").shim.dtype == torch.bfloat16
    with pytest.raises(EncoderError, match="precision = 'int4' is unknown"):
        set_precision(nlp, "int4")  # type: ignore[arg-type]
