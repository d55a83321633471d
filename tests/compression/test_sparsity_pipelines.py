"""Pruned pipelines on disk: smaller, the same when they are loaded, and pruned for good."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import spacy
import torch
from safetensors import safe_open
from spacy.language import Language
from thinc.api import Adam
from torch import Tensor

from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.sparsity.magnitude import prune
from spacy_distil.compression.sparsity.report import measure_sparsity
from spacy_distil.compression.sparsity.selection import Selection
from spacy_distil.compression.structured import LayerPart, keep_parts
from spacy_distil.encoder.checkpoint import load_checkpoint
from spacy_distil.encoder.shim import DistilBertShim, to_checkpoint
from spacy_distil.errors import CheckpointError
from tests.pipeline.conftest import LISTENER, examples, tagger

TEXT = "The film was great, and endless."
MATRIX = "transformer.layer.0.ffn.lin1.weight"


def weights_file(path: Path) -> Path:
    return path / "distilbert" / "model.safetensors"


def shim_of(nlp: Language) -> DistilBertShim:
    return nlp.get_pipe("distilbert").shim


def about(path: Path) -> dict:
    with safe_open(weights_file(path), framework="pt") as file:
        return json.loads(file.metadata()["spacy_distil"])


def rewrite(path: Path, change: Callable[[dict[str, Tensor], dict], object]) -> None:
    file, said = weights_file(path), about(path)
    tensors = {name: value.clone() for name, value in safetensors.torch.load_file(file).items()}
    change(tensors, said)
    safetensors.torch.save_file(tensors, file, metadata={"spacy_distil": json.dumps(said)})


@pytest.fixture
def pruned(nlp: Language) -> Language:
    prune(nlp, Selection.read(0.9, embeddings=True, scope="local"))
    return nlp


@pytest.fixture
def saved(pruned: Language, tmp_path: Path) -> Path:
    pruned.to_disk(tmp_path / "pruned")
    return tmp_path / "pruned"


def test_the_file_shrinks(nlp, tmp_path):
    nlp.to_disk(tmp_path / "dense")
    prune(nlp, Selection.read(0.9, embeddings=True))
    nlp.to_disk(tmp_path / "pruned")
    sizes = []
    for name in ("dense", "pruned"):
        file = weights_file(tmp_path / name)
        sizes.append(sum(value.nbytes for value in safetensors.torch.load_file(file).values()))
    assert sizes[1] < (0.1 + 1 / 32 + 0.05) * sizes[0]  # values, a bit a weight, biases and norms
    assert (
        weights_file(tmp_path / "pruned").stat().st_size
        < weights_file(tmp_path / "dense").stat().st_size - 0.8 * sizes[0]
    )


@pytest.mark.parametrize("way", ["disk", "bytes"])
def test_what_is_loaded_is_what_was_saved(pruned, saved, way):
    if way == "disk":
        loaded = spacy.load(saved)
    else:
        loaded = spacy.util.load_model_from_config(pruned.config, auto_fill=True).from_bytes(pruned.to_bytes())
    for name, parameter in shim_of(pruned).encoder.named_parameters():
        assert torch.equal(parameter, shim_of(loaded).encoder.get_parameter(name)), name
    zeros = shim_of(pruned).zeros.pruned
    assert shim_of(loaded).zeros.pruned.keys() == zeros.keys()
    assert all(torch.equal(shim_of(loaded).zeros.pruned[name], zero) for name, zero in zeros.items())
    assert loaded(TEXT).tensor.tolist() == pruned(TEXT).tensor.tolist()
    assert loaded.to_bytes() == pruned.to_bytes()


def test_a_loaded_pipeline_trains_on_without_its_zeros(saved):
    nlp = spacy.load(saved)
    before = measure_sparsity(nlp)["encoder"].zeros
    optimizer = nlp.resume_training()
    for _ in range(3):
        nlp.update(examples(nlp), sgd=optimizer)
    assert measure_sparsity(nlp)["encoder"].zeros == before


def test_it_trains_densely_where_that_is_asked_for(saved, tmp_path):
    nlp = spacy.load(saved, config={"components.distilbert.model.keep_zeros": False})
    before = measure_sparsity(nlp)["lin1"]
    assert before.share == pytest.approx(0.9, abs=1e-3)
    for _ in range(3):
        nlp.update(examples(nlp), sgd=Adam(0.01))
    assert measure_sparsity(nlp)["lin1"].share < 0.1
    nlp.to_disk(tmp_path / "dense")
    assert about(tmp_path / "dense")["format"] == "1"


def test_a_new_pipeline_starts_from_it_with_its_zeros(saved, pruned):
    for sub, layers in (("", None), ("distilbert", [1, 3])):
        nlp = spacy.blank("en")
        model = {"name": str(saved / sub), "precision": "float32", "layers": layers}
        nlp.add_pipe("distilbert", config={"model": model})
        nlp.add_pipe("tagger", config=tagger(LISTENER))
        nlp.initialize(lambda nlp=nlp: examples(nlp))
        for _ in range(2):
            nlp.update(examples(nlp), sgd=Adam(0.01))
        first = shim_of(nlp).encoder.layers[0].ffn.lin1.weight
        theirs = shim_of(pruned).encoder.layers[1 if layers else 0].ffn.lin1.weight
        assert torch.equal(first == 0, theirs == 0)


def test_a_copy_inside_a_component_keeps_its_zeros(pruned, tmp_path):
    pruned.replace_listeners("distilbert", "tagger", ["model.tok2vec"])
    pruned.to_disk(tmp_path / "own")
    nlp = spacy.load(tmp_path / "own")
    counted = measure_sparsity(nlp)
    assert counted["lin1"].share == pytest.approx(0.9, abs=1e-3)
    assert counted["lin1"].weights == 2 * 4 * 48 * 32
    for _ in range(2):
        nlp.update(examples(nlp), sgd=Adam(0.01))
    assert measure_sparsity(nlp)["lin1"].share == counted["lin1"].share


def test_what_structured_pruning_leaves_keeps_its_zeros(pruned):
    shim = shim_of(pruned)
    part = LayerPart(2, (0, 3), tuple(range(0, 48, 2)))
    shim.adopt(keep_parts(to_checkpoint(shim), (part,)))
    matrix = shim.encoder.layers[0].ffn.lin1.weight
    assert matrix.shape == (24, 32)
    assert torch.equal(shim.zeros.pruned[MATRIX], matrix == 0)


def test_dense_files_are_as_they_were(nlp, tmp_path):
    nlp.to_disk(tmp_path / "dense")
    assert about(tmp_path / "dense").keys() == {"format", "config", "tokenizer"}
    assert about(tmp_path / "dense")["format"] == "1"
    assert not load_checkpoint(str(tmp_path / "dense")).sparse


def test_a_pruned_file_says_which_version_it_needs(saved):
    assert about(saved)["format"] == "2"
    assert about(saved)["needs"] == "0.2.0"
    assert load_checkpoint(str(saved)).sparse


def test_a_pruned_pipeline_requires_the_version_that_reads_it(nlp):
    nlp.meta["performance"] = {"tag_acc": 0.9}
    prune(nlp, Selection.read(0.5))
    assert nlp.meta["requirements"] == ["spacy-distil>=0.2.0"]
    assert not nlp.meta["performance"]


def test_less_than_there_is_can_not_be_pruned(pruned):
    with pytest.raises(
        CompressionError, match=r"of the encoder in 'distilbert' are zero already, more than sparsity = 0\.3"
    ):
        prune(pruned, Selection.read(0.3))
    prune(pruned, Selection.read(None, pattern="2:4"))  # says how many of a group, at most


def test_files_that_do_not_say_which_matrices_keep_all_zeros(saved, pruned):
    rewrite(saved, lambda tensors, said: said.pop("sparse_embeddings"))
    zeros = shim_of(spacy.load(saved)).zeros.pruned
    assert zeros.keys() == shim_of(pruned).zeros.pruned.keys()
    assert "embeddings.word_embeddings.weight" in zeros


def truncate(tensors: dict[str, Tensor], said: dict) -> None:
    tensors[MATRIX + ".values"] = tensors[MATRIX + ".values"][:-3].clone()


def widen(tensors: dict[str, Tensor], said: dict) -> None:
    said["config"]["width"] = 64


def lose(tensors: dict[str, Tensor], said: dict) -> None:
    del tensors[MATRIX + ".values"]


@pytest.mark.parametrize("damage", [truncate, widen, lose])
def test_damaged_sparse_data_is_an_error(saved, damage):
    rewrite(saved, damage)
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        spacy.load(saved)


def test_the_report_counts_kinds_and_all(nlp, shim):
    prune(nlp, Selection.read(0.25, scope="local", embeddings=True))
    counted = measure_sparsity(nlp)
    kinds = ["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2", "word_embeddings", "position_embeddings", "encoder"]
    assert list(counted) == kinds
    assert counted["lin2"].weights == 4 * 48 * 32
    assert {counted[kind].share for kind in kinds[:6]} == {0.25}
    parameters = list(shim.encoder.parameters())
    assert counted["encoder"].weights == sum(p.numel() for p in parameters)
    assert counted["encoder"].zeros == sum(int((p == 0).sum()) for p in parameters)
