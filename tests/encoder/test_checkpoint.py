"""What transformers saves, the encoder loads, and computes the same with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from transformers import (
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    DistilBertModel,
)

from spacy_distil.encoder.checkpoint import load_checkpoint
from spacy_distil.encoder.inference import InferencePlan
from spacy_distil.encoder.module import DistilBertEncoder
from spacy_distil.errors import CheckpointError
from tests.conftest import SaveCheckpoint, randomize, tiny_config, tiny_model
from tests.encoder.reference import FLOAT32, hidden_states, pack, random_sequences, relative_error, transformers_model

LENGTHS = [2, 5, 5, 5, 9, 30, 31, 64]
UNSORTED = [9, 2, 64, 2, 5]


def build(folder: Path, **options) -> DistilBertEncoder:
    return load_checkpoint(str(folder), **options).build().eval()


def assert_equal_to_transformers(folder: Path, lengths: list[int] = LENGTHS) -> None:
    """Every hidden state of the module, of the plan, and the plan's last, for sequences packed together."""
    model = transformers_model(folder)
    encoder = build(folder)
    sequences = random_sequences(lengths, encoder.config.vocab_size)
    expected, packed = hidden_states(model, sequences), pack(sequences)
    plan = InferencePlan(encoder, torch.float32)
    with torch.no_grad():
        for actual in (encoder(packed), plan.all(packed)):
            assert len(actual) == len(expected)
            assert all(relative_error(a, e) < FLOAT32 for a, e in zip(actual, expected, strict=True))
    assert relative_error(plan.last(packed), expected[-1]) < FLOAT32


@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu", "silu"])
def test_the_encoder_equals_transformers(save_checkpoint: SaveCheckpoint, model_type, activation):
    name = "hidden_act" if model_type == "bert" else "activation"
    assert_equal_to_transformers(save_checkpoint(model_type, **{name: activation}))


def test_the_order_of_the_lengths_does_not_matter(folder):
    assert_equal_to_transformers(folder, lengths=UNSORTED)


def test_heads_of_unlike_number_and_width_equal_transformers(save_checkpoint: SaveCheckpoint):
    assert_equal_to_transformers(save_checkpoint("bert", num_attention_heads=2, layer_norm_eps=1e-3))
    assert_equal_to_transformers(save_checkpoint("distilbert", n_heads=8, hidden_dim=33))


def test_two_segments_equal_transformers(bert_folder):
    encoder = build(bert_folder)
    sequences = random_sequences(LENGTHS, encoder.config.vocab_size)
    types = [[0] * (len(row) // 2) + [1] * (len(row) - len(row) // 2) for row in sequences]
    expected = hidden_states(transformers_model(bert_folder), sequences, types)
    packed = pack(sequences, types)
    one_segment = InferencePlan(encoder, torch.float32).last(pack(sequences))
    assert relative_error(encoder(packed)[-1].detach(), expected[-1]) < FLOAT32
    assert relative_error(InferencePlan(encoder, torch.float32).last(packed), expected[-1]) < FLOAT32
    assert relative_error(one_segment, expected[-1]) > 0.01


def test_bfloat16_stays_within_its_bound(folder):
    """8 bits of mantissa through 4 layers: each piece's cosine over 0.999, each value within 0.1, of values up to 4."""
    encoder = build(folder)
    sequences = random_sequences(LENGTHS, encoder.config.vocab_size)
    expected, packed = hidden_states(transformers_model(folder), sequences)[-1], pack(sequences)
    with torch.no_grad():
        in_training = encoder(packed, torch.bfloat16)[-1]
    for actual in (in_training, InferencePlan(encoder, torch.bfloat16).last(packed)):
        assert actual.dtype == torch.bfloat16
        assert torch.cosine_similarity(actual.float(), expected).min() > 0.999
        assert (actual.float() - expected).abs().max() < 0.1
        assert not torch.equal(actual.float(), expected)


@pytest.mark.parametrize(
    ("model_type", "make"),
    [
        ("bert", BertForSequenceClassification),
        ("bert", BertForMaskedLM),
        ("distilbert", DistilBertForSequenceClassification),
        ("distilbert", DistilBertForMaskedLM),
    ],
)
def test_the_encoder_is_found_in_a_checkpoint_of_a_task(save_checkpoint: SaveCheckpoint, model_type, make):
    model = make(tiny_config(model_type))
    randomize(model)
    assert_equal_to_transformers(save_checkpoint(model_type, model=model))


@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
def test_a_checkpoint_in_half_precision_is_read_as_float32(save_checkpoint: SaveCheckpoint, model_type):
    folder = save_checkpoint(model_type, model=tiny_model(model_type).half())
    assert {value.dtype for value in build(folder).state_dict().values()} == {torch.float32}
    expected = transformers_model(folder).float()
    sequences = random_sequences([7], 50)
    assert relative_error(build(folder)(pack(sequences))[-1].detach(), hidden_states(expected, sequences)[-1]) < FLOAT32


def test_the_oldest_names_of_bert_are_read(save_checkpoint: SaveCheckpoint, tmp_path: Path):
    folder = save_checkpoint("bert")
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    old = {
        "bert." + key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for key, value in weights.items()
    }
    assert any("gamma" in key for key in old)
    shutil.copytree(folder, tmp_path / "old")
    safetensors.torch.save_file(old, tmp_path / "old" / "model.safetensors")
    assert_same_weights(build(tmp_path / "old"), build(folder))


def test_plain_weights_in_an_old_bin_file_are_read(save_checkpoint: SaveCheckpoint, folder, tmp_path: Path):
    model = transformers_model(folder)
    shutil.copytree(folder, tmp_path / "old")
    (tmp_path / "old" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "old" / "pytorch_model.bin")
    assert_same_weights(build(tmp_path / "old"), build(folder))


def test_weights_in_several_files_are_read(folder, tmp_path: Path):
    shutil.copytree(folder, tmp_path / "sharded")
    (tmp_path / "sharded" / "model.safetensors").unlink()
    transformers_model(folder).save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len(list((tmp_path / "sharded").glob("model-*.safetensors"))) > 2
    assert_same_weights(build(tmp_path / "sharded"), build(folder))
    with pytest.raises(CheckpointError, match="Pin a `revision`"):
        load_checkpoint(str(tmp_path / "sharded"), sha256="0" * 64)


def assert_same_weights(actual: DistilBertEncoder, expected: DistilBertEncoder) -> None:
    ours, theirs = actual.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


# Layers


@pytest.mark.parametrize("layers", [[0, 2], [3], [2, 0, 1], [1, 1, 3], [0, 1, 2, 3]])
def test_chosen_layers_of_a_distilbert_equal_transformers_with_those_layers(distilbert_folder, layers):
    model = transformers_model(distilbert_folder)
    model.transformer.layer = torch.nn.ModuleList(model.transformer.layer[i] for i in layers)
    encoder = build(distilbert_folder, layers=layers)
    sequences = random_sequences(LENGTHS, encoder.config.vocab_size)
    expected = hidden_states(model, sequences)[-1]
    assert relative_error(encoder(pack(sequences))[-1].detach(), expected) < FLOAT32


@pytest.mark.parametrize("layers", [[0, 2], [0, 1, 2, 3]])
def test_chosen_layers_of_a_bert_are_a_distilbert_with_the_token_types_folded_in(bert_folder, layers):
    model = transformers_model(bert_folder)
    model.encoder.layer = torch.nn.ModuleList(model.encoder.layer[i] for i in layers)
    encoder = build(bert_folder, layers=layers)
    sequences = random_sequences(LENGTHS, encoder.config.vocab_size)
    expected = hidden_states(model, sequences)[-1]
    assert relative_error(encoder(pack(sequences))[-1].detach(), expected) < FLOAT32
    assert encoder.config.model_type == "distilbert"
    assert not any("token_type" in name or "pooler" in name for name in encoder.state_dict())


def test_a_layer_that_is_kept_twice_learns_twice(distilbert_folder):
    encoder = build(distilbert_folder, layers=[1, 1])
    first, second = (layer.ffn.lin1.weight for layer in encoder.layers)
    with torch.no_grad():
        first.zero_()
    assert second.abs().sum() > 0


@pytest.mark.parametrize(("layers", "named"), [([0, 4], "layer 4"), ([-1], "layer -1"), ([], "no layer")])
def test_layers_out_of_range_are_an_error_before_the_weights_are_read(folder, tmp_path: Path, layers, named):
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "model.safetensors").write_bytes(b"would be an error of its own")
    with pytest.raises(CheckpointError, match=f"{named}.* layers 0 to 3"):
        load_checkpoint(str(tmp_path / "copy"), layers=layers)


# Vocabularies


def test_a_bert_without_a_pooler_is_read(save_checkpoint: SaveCheckpoint):
    model = BertModel(tiny_config("bert"), add_pooling_layer=False)
    randomize(model)
    encoder = build(save_checkpoint("bert", model=model))
    assert not encoder.config.pooler
    assert encoder.config.model_type == "bert"


def test_a_distilbert_of_sinusoids_equals_transformers(save_checkpoint: SaveCheckpoint):
    config = DistilBertConfig(**{**tiny_config("distilbert").to_dict(), "sinusoidal_pos_embds": True})
    assert_equal_to_transformers(save_checkpoint("distilbert", model=DistilBertModel(config)))


def test_the_config_beside_the_weights_needs_no_more_than_its_shape(folder, tmp_path: Path):
    shutil.copytree(folder, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    for key in ("architectures", "torch_dtype", "transformers_version", "pad_token_id", "initializer_range"):
        config.pop(key, None)
    (tmp_path / "copy" / "config.json").write_text(json.dumps(config))
    assert_same_weights(build(tmp_path / "copy"), build(folder))
