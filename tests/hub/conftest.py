"""Tiny random models with heads, saved by transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.conftest import randomize, save_tokenizer, tiny_config

SaveHead = Callable[..., Path]
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
TOPICS = ["price", "room", "staff"]
FAMILIES = {"distilbert": "DistilBert", "bert": "Bert"}
EXACT = 1e-4  # the largest difference from transformers' scores


def names(labels: Sequence[str]) -> dict[int, str]:
    return dict(enumerate(labels))


@pytest.fixture(scope="session")
def save_head(tmp_path_factory: pytest.TempPathFactory) -> SaveHead:
    """Saves a random model of a class, `SequenceClassification` for instance, and its tokenizer."""

    def save(model_type: str, head: str, *, labels: Sequence[str] | None = None, **config: Any) -> Path:
        folder = tmp_path_factory.mktemp(head)
        if labels is not None:
            config["id2label"] = names(labels)
        torch.manual_seed(0)
        model = getattr(transformers, f"{FAMILIES[model_type]}For{head}")(tiny_config(model_type, **config))
        randomize(model)
        if hasattr(model, "classifier"):
            torch.nn.init.normal_(model.classifier.weight)  # no label wins everywhere
        model.save_pretrained(folder)
        save_tokenizer(folder, model_type)
        return folder

    return save


@pytest.fixture(params=list(FAMILIES))
def model_type(request: pytest.FixtureRequest) -> str:
    return request.param
