"""Beam search against transformers' `generate`: models of one shape with random weights, texts of a fixed length, in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from spacy_distil.encoder.config import EncoderConfig, LayerConfig
from spacy_distil.encoder.inference import InferencePlan
from spacy_distil.encoder.module import DistilBertEncoder
from spacy_distil.encoder.packed import Packed
from spacy_distil.encoder.precision import resolve_precision
from spacy_distil.pipeline.generation.config import DecoderConfig
from spacy_distil.pipeline.generation.inference import DecoderPlan
from spacy_distil.pipeline.generation.module import Decoder
from spacy_distil.pipeline.generation.search import Rules, Search, find_texts

PAD, START, END = 0, 2, 3
SPECIAL = 4
SHORTEST = 0.5  # sources are from this share of their mean length up to as much above it


@dataclass(frozen=True)
class Task:
    """What is written.

    layers, decoder_layers, width, heads, neurons: the shape of both models.
    source_vocabulary, vocabulary: pieces that are read and written.
    texts: how many, `batch_size` at once.
    source_length: pieces of a source on average; they are from half to one and a half of it.
    length: pieces that are written for each, by force.
    """

    layers: int = 6
    decoder_layers: int = 3
    width: int = 384
    heads: int = 12
    neurons: int = 1536
    source_vocabulary: int = 30522
    vocabulary: int = 8000
    texts: int = 256
    batch_size: int = 64
    source_length: int = 12
    length: int = 16
    beams: int = 4

    def sources(self) -> list[list[list[int]]]:
        """Batches of like length, as both get them."""
        generator = torch.Generator().manual_seed(0)
        shortest, longest = int(SHORTEST * self.source_length), int((2 - SHORTEST) * self.source_length)
        lengths = torch.randint(shortest, longest + 1, (self.texts,), generator=generator).sort().values.tolist()
        rows = [torch.randint(SPECIAL, self.source_vocabulary, (n,), generator=generator).tolist() for n in lengths]
        return [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]


Run = Callable[[], int]
"""Writes all texts, and returns how many pieces."""


def measure(task: Task, *, rounds: int, progress: Callable[[str], Any]) -> dict[str, float]:
    """Pieces written per second, the median over rounds in each of which all run in turn."""
    device_precision = resolve_precision("auto", torch.device("cpu"))
    runs: dict[str, Run] = {"transformers, float32": transformers_run(task, torch.float32)}
    if device_precision != torch.float32:
        runs[f"transformers, {_name(device_precision)}"] = transformers_run(task, device_precision)
        runs["spacy-distil, float32"] = own_run(task, torch.float32)
    runs[f"spacy-distil, {_name(device_precision)}"] = own_run(task, device_precision)
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for name, run in runs.items():
        progress(f"Warming up {name}")
        run()
    for number in range(rounds):
        for name, run in runs.items():
            progress(f"Round {number + 1}: {name}")
            start = time.perf_counter()
            n_pieces = run()
            speeds[name].append(n_pieces / (time.perf_counter() - start))
    return {name: median(values) for name, values in speeds.items()}


def own_run(task: Task, dtype: torch.dtype) -> Run:
    torch.manual_seed(0)
    encoder_config = EncoderConfig(
        vocab_size=task.source_vocabulary,
        width=task.width,
        head_width=task.width // task.heads,
        max_positions=512,
        layers=(LayerConfig(task.heads, task.neurons),) * task.layers,
        n_types=2,
    )
    decoder_config = DecoderConfig(
        vocab_size=task.vocabulary,
        width=task.width,
        memory_width=task.width,
        n_layers=task.decoder_layers,
        n_heads=task.heads,
        ffn_width=task.neurons,
        max_positions=512,
    )
    encoder = InferencePlan(DistilBertEncoder(encoder_config).eval(), dtype)
    decoder = DecoderPlan(Decoder(decoder_config).eval(), dtype, None)
    rules = Rules(START, END, silent=(PAD, 1, START, END))

    def run() -> int:
        n_pieces = 0
        for rows in task.sources():
            packed = Packed.from_lists(rows).filled(1 << 30)
            memory = encoder.last(packed)[: sum(packed.lengths)]
            writer = decoder.start(memory, packed.lengths, n_beams=task.beams, limit=task.length)
            texts = find_texts(writer, [task.length] * len(rows), rules, Search(beams=task.beams))
            n_pieces += sum(map(len, texts))
        return n_pieces

    return run


def transformers_run(task: Task, dtype: torch.dtype) -> Run:
    from transformers import BertConfig, BertLMHeadModel, BertModel, EncoderDecoderModel

    torch.manual_seed(0)
    shape = {
        "hidden_size": task.width,
        "num_attention_heads": task.heads,
        "intermediate_size": task.neurons,
        "max_position_embeddings": 512,
    }
    encoder = BertModel(BertConfig(vocab_size=task.source_vocabulary, num_hidden_layers=task.layers, **shape))
    decoder = BertLMHeadModel(
        BertConfig(
            vocab_size=task.vocabulary,
            num_hidden_layers=task.decoder_layers,
            is_decoder=True,
            add_cross_attention=True,
            **shape,
        )
    )
    model: Any = EncoderDecoderModel(encoder=encoder, decoder=decoder).eval()
    model.to(dtype)
    settings = {
        "decoder_start_token_id": START,
        "eos_token_id": END,
        "pad_token_id": PAD,
        "num_beams": task.beams,
        "min_new_tokens": task.length,
        "max_new_tokens": task.length,
        "do_sample": False,
    }

    def run() -> int:
        n_pieces = 0
        for rows in task.sources():
            ids, mask = _pad(rows)
            with torch.inference_mode():
                texts = model.generate(input_ids=ids, attention_mask=mask, **settings)
            n_pieces += texts.shape[0] * (texts.shape[1] - 1)
        return n_pieces

    return run


def _pad(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    longest = max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
