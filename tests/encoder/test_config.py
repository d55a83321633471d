from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from transformers import BertConfig, DistilBertConfig

from spacy_distil.encoder.config import ACTIVATIONS, BERT_SIZES, DISTILBERT_SIZES, EncoderConfig, LayerConfig
from spacy_distil.errors import CheckpointError

BERT = BertConfig(
    vocab_size=99,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=40,
    hidden_act="relu",
    hidden_dropout_prob=0.2,
    attention_probs_dropout_prob=0.3,
    max_position_embeddings=17,
    type_vocab_size=3,
    layer_norm_eps=1e-7,
    pad_token_id=5,
).to_dict()
DISTILBERT = DistilBertConfig(
    vocab_size=99,
    dim=24,
    n_layers=2,
    n_heads=3,
    hidden_dim=40,
    activation="relu",
    dropout=0.2,
    attention_dropout=0.3,
    max_position_embeddings=17,
    pad_token_id=5,
).to_dict()
SHAPE = EncoderConfig(
    vocab_size=99,
    width=24,
    head_width=8,
    max_positions=17,
    layers=(LayerConfig(3, 40), LayerConfig(3, 40)),
    activation="relu",
    dropout=0.2,
    attention_dropout=0.3,
    pad_id=5,
)


def read(hf: dict[str, Any]) -> EncoderConfig:
    return EncoderConfig.from_hf(hf, where="The checkpoint 'it'")


def test_every_value_of_a_bert_is_read():
    assert read(BERT) == replace(SHAPE, n_types=3, layer_norm_eps=1e-7)
    assert read(BERT).model_type == "bert"


def test_every_value_of_a_distilbert_is_read():
    assert read(DISTILBERT) == SHAPE
    assert read(DISTILBERT).model_type == "distilbert"


@pytest.mark.parametrize(("hf", "make"), [(BERT, BertConfig), (DISTILBERT, DistilBertConfig)])
def test_what_is_written_is_transformers_own_config_and_reads_the_same(hf, make):
    written = read(hf).to_hf()
    assert read(written) == read(hf)
    understood = make.from_dict(written).to_dict()
    assert {key: understood[key] for key in hf} == {**hf, "architectures": written["architectures"]}


@pytest.mark.parametrize("hf", [BERT, DISTILBERT])
def test_optional_values_have_transformers_defaults(hf):
    required = BERT_SIZES if hf is BERT else DISTILBERT_SIZES
    make = BertConfig if hf is BERT else DistilBertConfig
    bare = {key: hf[key] for key in hf if key in required}
    assert read({"model_type": hf["model_type"], **bare}) == read(make(**bare).to_dict())


def test_a_pruned_shape_survives_as_a_dict_and_has_no_hugging_face_config():
    pruned = replace(SHAPE, layers=(LayerConfig(3, 40), LayerConfig(2, 17)))
    assert EncoderConfig.from_dict(pruned.to_dict()) == pruned
    with pytest.raises(CheckpointError, match="differ in their heads or neurons"):
        pruned.to_hf()
    with pytest.raises(CheckpointError, match="can't say that"):
        replace(SHAPE, layers=(LayerConfig(2, 40),) * 2).to_hf()


def test_a_distilbert_with_another_norm_than_transformers_knows_is_not_written():
    with pytest.raises(CheckpointError, match=r"layer_norm_eps = 0\.001"):
        replace(SHAPE, layer_norm_eps=1e-3).to_hf()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "roberta"}, "'roberta'. Supported are 'distilbert' and 'bert'"),
        ({"model_type": None}, "None. Supported are 'distilbert' and 'bert'"),
        ({"position_embedding_type": "relative_key"}, "'relative_key'. Only 'absolute'"),
        ({"is_decoder": True}, "Only encoders"),
        ({"add_cross_attention": True}, "Only encoders"),
        ({"hidden_act": "tanh"}, "'tanh'. Supported are " + ", ".join(ACTIVATIONS)),
    ],
)
def test_an_unsupported_architecture_is_an_error_that_says_what_is_supported(change, message):
    with pytest.raises(CheckpointError, match="^The checkpoint 'it'.*" + re.escape(message)):
        read({**BERT, **change})


@pytest.mark.parametrize(
    ("hf", "key"), [*((BERT, key) for key in BERT_SIZES), *((DISTILBERT, key) for key in DISTILBERT_SIZES)]
)
def test_a_missing_value_is_named(hf, key):
    with pytest.raises(CheckpointError, match=f"lacks the value '{key}'"):
        read({name: value for name, value in hf.items() if name != key})


@pytest.mark.parametrize("value", [0, -1, None, "32", 2.5, [2]])
@pytest.mark.parametrize("key", ["vocab_size", "n_layers", "n_heads", "dim"])
def test_a_size_that_is_no_positive_number_is_named(key, value):
    with pytest.raises(CheckpointError, match=re.escape(f"has {key} = {value!r}, where a positive whole number")):
        read({**DISTILBERT, key: value})
