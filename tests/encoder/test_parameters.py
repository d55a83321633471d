"""Averages swapped in and out, copies, pickles, bytes and files."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from spacy.tokens import Doc
from thinc.api import Model, Optimizer

from spacy_distil.encoder.model import DistilBert, get_shim
from spacy_distil.errors import CheckpointError, EncoderError
from tests.conftest import TEXTS

OPTIONS: dict[str, Any] = {"window": 20, "overlap": 6, "precision": "float32"}


@pytest.fixture
def docs(make_doc) -> list[Doc]:
    return [make_doc(text) for text in TEXTS]


def predict(model: Model, docs: list[Doc]) -> np.ndarray:
    return np.concatenate(model.predict(docs))


def update(model: Model, docs: list[Doc], optimizer: Optimizer) -> None:
    rows, backprop = model.begin_update(docs)
    backprop([np.ones_like(row) for row in rows])
    model.finish_update(optimizer)


# use_params


def test_averages_are_swapped_in_and_out_again(make_encoder, docs):
    model, optimizer = make_encoder(**OPTIONS), Optimizer(0.01)
    for _ in range(3):
        update(model, docs, optimizer)
    trained = predict(model, docs)
    assert optimizer.averages is not None
    values = {name: value.clone() for name, value in get_shim(model).encoder.state_dict().items()}
    with model.use_params(optimizer.averages):
        averaged = predict(model, docs)
        np.testing.assert_allclose(averaged, np.concatenate(model.begin_update(docs)[0]), rtol=1e-4, atol=1e-5)
        for (_, name), average in optimizer.averages.items():
            swapped = dict(get_shim(model).encoder.named_parameters())[name]
            np.testing.assert_array_equal(swapped.detach().numpy().ravel(), average.ravel())
    assert np.abs(averaged - trained).max() > 1e-3
    np.testing.assert_array_equal(predict(model, docs), trained)
    assert all(torch.equal(value, values[name]) for name, value in get_shim(model).encoder.state_dict().items())


def test_averages_are_swapped_out_after_an_error(make_encoder, docs):
    model, optimizer = make_encoder(**OPTIONS), Optimizer(0.01)
    update(model, docs, optimizer)
    trained = predict(model, docs)

    def fail() -> None:
        with model.use_params(optimizer.averages):
            predict(model, docs)
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    np.testing.assert_array_equal(predict(model, docs), trained)


def test_training_goes_on_after_averages_were_in(make_encoder, docs):
    def train(*, look: bool) -> np.ndarray:
        model, optimizer = make_encoder(**OPTIONS), Optimizer(0.01)
        for _ in range(4):
            update(model, docs, optimizer)
            if look:
                with model.use_params(optimizer.averages):
                    predict(model, docs)
        return predict(model, docs)

    np.testing.assert_array_equal(train(look=True), train(look=False))


def test_parameters_of_another_model_are_not_swapped_in(make_encoder, docs):
    model, other, optimizer = make_encoder(**OPTIONS), make_encoder(**OPTIONS), Optimizer(0.01)
    update(other, docs, optimizer)
    assert optimizer.averages is not None
    before = predict(model, docs)
    with model.use_params(optimizer.averages):
        np.testing.assert_array_equal(predict(model, docs), before)
    with DistilBert("some/name").use_params(optimizer.averages):
        pass


# Copies


def pickled(model: Model) -> Model:
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("duplicate", [Model.copy, pickled])
@pytest.mark.parametrize("has_predicted", [True, False])
def test_a_copy_learns_for_itself(make_encoder, docs, duplicate: Callable[[Model], Model], has_predicted: bool):
    model = make_encoder(**OPTIONS, freeze=1)
    if has_predicted:
        predict(model, docs)
    copy = duplicate(model)
    before = predict(model, docs)
    np.testing.assert_array_equal(predict(copy, docs), before)
    assert get_shim(copy).id != get_shim(model).id
    optimizer = Optimizer(0.01)
    update(copy, docs, optimizer)
    assert {model_id for model_id, _ in optimizer.mom1} == {get_shim(copy).id}
    np.testing.assert_array_equal(predict(model, docs), before)
    assert np.abs(predict(copy, docs) - before).max() > 1e-3
    assert [p.requires_grad for p in get_shim(copy).encoder.parameters()] == [
        p.requires_grad for p in get_shim(model).encoder.parameters()
    ]


def test_an_encoder_without_weights_is_copied_and_saved_as_such(tmp_path):
    model = DistilBert("some/name")
    assert not get_shim(model.copy()).has_weights
    assert not get_shim(DistilBert("some/name").from_bytes(model.to_bytes())).has_weights


# Bytes and files


@pytest.fixture
def gone(folder: Path, docs, tmp_path: Path) -> tuple[Model, np.ndarray]:
    """An encoder that has learnt something and whose checkpoint is no more, and its prediction."""
    shutil.copytree(folder, tmp_path / "checkpoint")
    model = DistilBert(str(tmp_path / "checkpoint"), **OPTIONS, layers=[0, 2])
    model.initialize()
    update(model, docs, Optimizer(0.01))
    shutil.rmtree(tmp_path / "checkpoint")
    return model, predict(model, docs)


def new() -> Model:
    return DistilBert("./gone", **OPTIONS, freeze=1)


def test_bytes_hold_all_that_the_encoder_is(gone, docs):
    model, expected = gone
    loaded = new().from_bytes(model.to_bytes())
    np.testing.assert_array_equal(predict(loaded, docs), expected)
    assert loaded.get_dim("nO") == 32
    assert loaded.to_bytes() == model.to_bytes()


def test_a_file_holds_all_that_the_encoder_is(gone, docs, tmp_path):
    model, expected = gone
    path = tmp_path / "encoder.safetensors"
    get_shim(model).to_disk(path)
    assert path.read_bytes() == get_shim(model).to_bytes()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    loaded = new()
    get_shim(loaded).from_disk(str(path))
    np.testing.assert_array_equal(predict(loaded, docs), expected)
    assert get_shim(loaded).encoder.config == get_shim(model).encoder.config


def test_what_is_loaded_replaces_what_was_there(gone, docs, make_encoder):
    model, expected = gone
    loaded = make_encoder(**OPTIONS)
    assert np.abs(predict(loaded, docs) - expected).max() > 0.1
    loaded.from_bytes(model.to_bytes())
    np.testing.assert_array_equal(predict(loaded, docs), expected)


def test_what_is_loaded_learns_but_for_its_frozen_parts(gone, docs):
    model, _ = gone
    loaded, optimizer = new().from_bytes(model.to_bytes()), Optimizer(0.01)
    update(loaded, docs, optimizer)
    assert {name.split(".")[2] for _, name in optimizer.mom1} == {"1"}


def test_a_loaded_encoder_does_not_depend_on_its_file(gone, docs, tmp_path):
    model, expected = gone
    path, loaded = tmp_path / "encoder.safetensors", new()
    get_shim(model).to_disk(path)
    get_shim(loaded).from_disk(path)
    with path.open("r+b") as file:  # as a copy over it does
        file.write(bytes(path.stat().st_size))
    np.testing.assert_array_equal(predict(loaded, docs), expected)


def test_the_file_is_plain_safetensors_with_transformers_names(gone, tmp_path):
    model, _ = gone
    get_shim(model).to_disk(tmp_path / "encoder.safetensors")
    weights = safetensors.torch.load_file(tmp_path / "encoder.safetensors")
    assert weights["transformer.layer.1.attention.q_lin.weight"].shape == (32, 32)
    with safe_open(tmp_path / "encoder.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["spacy_distil"])["config"]["width"] == 32


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(gone, docs, tmp_path, monkeypatch, error):
    model, expected = gone
    path = tmp_path / "encoder.safetensors"
    get_shim(model).to_disk(path)
    update(model, docs, Optimizer(0.01))

    def fail(weights, draft, metadata):
        Path(draft).write_bytes(b"half")
        raise error

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(type(error)):
        get_shim(model).to_disk(path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    loaded = new()
    get_shim(loaded).from_disk(path)
    np.testing.assert_array_equal(predict(loaded, docs), expected)


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_a_truncated_file_is_an_error(gone, tmp_path, kept):
    path = tmp_path / "encoder.safetensors"
    path.write_bytes(get_shim(gone[0]).to_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"encoder\.safetensors.*truncated or damaged.*Copy the pipeline again"):
        get_shim(new()).from_disk(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match=r"no file .*encoder\.safetensors"):
        get_shim(new()).from_disk(tmp_path / "encoder.safetensors")


def rewrite(model: Model, path: Path, change: Callable[[dict], object]) -> None:
    """The model's file with other metadata: what `change` returns, or has changed."""
    get_shim(model).to_disk(path)
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["spacy_distil"])
    changed = change(about) or about
    weights = {name: value.clone() for name, value in safetensors.torch.load_file(path).items()}
    text = changed if isinstance(changed, str) else json.dumps(changed)
    safetensors.torch.save_file(weights, path, metadata={"spacy_distil": text})


def test_a_file_of_a_newer_version_is_an_error_that_says_so(gone, tmp_path):
    path = tmp_path / "encoder.safetensors"
    rewrite(gone[0], path, lambda about: about.update(format="99"))
    with pytest.raises(CheckpointError, match=r"format '99', and this version .* reads '1', '2', '3'\. Upgrade"):
        get_shim(new()).from_disk(path)
    rewrite(gone[0], path, lambda about: about.update(format="99", needs="9.1.0"))
    with pytest.raises(CheckpointError, match=r"It needs spacy-distil >= 9\.1\.0: upgrade"):
        get_shim(new()).from_disk(path)


@pytest.mark.parametrize("text", ["1", "[]"])
def test_a_file_of_an_unknown_format_is_an_error(gone, tmp_path, text):
    path = tmp_path / "encoder.safetensors"
    rewrite(gone[0], path, lambda about: text)
    with pytest.raises(CheckpointError, match="is of the format"):
        get_shim(new()).from_disk(path)


def test_a_file_of_transformers_is_an_error(folder):
    with pytest.raises(CheckpointError, match="of the format None"):
        get_shim(new()).from_disk(folder / "model.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        lambda about: "{",
        lambda about: about.pop("config") and None,
        lambda about: about.pop("tokenizer") and None,
        lambda about: about.update(config={}),
        lambda about: about.update(config=[1]),
        lambda about: about["config"].update(more=1),
        lambda about: about.update(tokenizer={}),
        lambda about: about["tokenizer"].update(tokenizer="{}"),
        lambda about: about["tokenizer"].update(special_tokens={}),
    ],
)
def test_damaged_metadata_is_an_error(gone, tmp_path, change):
    path = tmp_path / "encoder.safetensors"
    rewrite(gone[0], path, change)
    with pytest.raises(CheckpointError, match=r"encoder\.safetensors.*damaged.*Copy the pipeline again"):
        get_shim(new()).from_disk(path)


def test_a_model_of_another_width_around_it_is_an_error(gone, tmp_path):
    loaded = new()
    loaded.set_dim("nO", 48)
    with pytest.raises((EncoderError, ValueError), match="48"):
        loaded.from_bytes(gone[0].to_bytes())
