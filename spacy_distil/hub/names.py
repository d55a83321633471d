"""The parameters of heads: Hugging Face's name of each, and ours, `layer.parameter`. The tables are read both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from spacy_distil.errors import CheckpointError

Family = Literal["bert", "distilbert"]
Names = dict[Family, dict[str, str]]

_CLASSIFIER = {"classifier.weight": "output.W", "classifier.bias": "output.b"}
_ANSWERS = {"qa_outputs.weight": "output.W", "qa_outputs.bias": "output.b"}

SEQUENCE_CLASSIFICATION: Names = {
    "bert": {"bert.pooler.dense.weight": "hidden.W", "bert.pooler.dense.bias": "hidden.b", **_CLASSIFIER},
    "distilbert": {"pre_classifier.weight": "hidden.W", "pre_classifier.bias": "hidden.b", **_CLASSIFIER},
}
TOKEN_CLASSIFICATION: Names = {"bert": _CLASSIFIER, "distilbert": _CLASSIFIER}
QUESTION_ANSWERING: Names = {"bert": _ANSWERS, "distilbert": _ANSWERS}
# The matrix from width to vocabulary is that of the word embeddings.
MASKED_LM: Names = {
    "bert": {
        "cls.predictions.transform.dense.weight": "head.W",
        "cls.predictions.transform.dense.bias": "head.b",
        "cls.predictions.transform.LayerNorm.weight": "head.norm_G",
        "cls.predictions.transform.LayerNorm.bias": "head.norm_b",
        "cls.predictions.bias": "head.vocab_b",
    },
    "distilbert": {
        "vocab_transform.weight": "head.W",
        "vocab_transform.bias": "head.b",
        "vocab_layer_norm.weight": "head.norm_G",
        "vocab_layer_norm.bias": "head.norm_b",
        "vocab_projector.bias": "head.vocab_b",
    },
}
DECODERS: dict[Family, str] = {"bert": "cls.predictions.decoder.weight", "distilbert": "vocab_projector.weight"}
# Names that older versions of transformers have written.
OLD = {
    "LayerNorm.gamma": "LayerNorm.weight",
    "LayerNorm.beta": "LayerNorm.bias",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}


def to_own(names: Mapping[str, str], weights: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """A head's parameters by our names, in float32.

    where: what to call the checkpoint in an error.
    Raises CheckpointError where one is missing.
    """
    current = {**{_modern(name): value for name, value in weights.items()}, **weights}
    missing = [name for name in names if name not in current]
    if missing:
        raise CheckpointError(
            f"{where} lacks {len(missing)} of the {len(names)} parameters of its head, such as {missing[0]!r}: was the head "
            "ever trained? A checkpoint whose architecture has no head becomes a pipeline of the encoder alone."
        )
    return {own: current[name].to(torch.float32) for name, own in names.items()}


def to_hf(names: Mapping[str, str], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: parameters[own] for name, own in names.items()}


def _modern(name: str) -> str:
    for old, new in OLD.items():
        name = name.replace(old, new)
    return name
