"""The slow and obvious ways to what the encoder computes: transformers on one sequence after the other, and loops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from spacy.tokens import Doc
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedModel

from spacy_distil.encoder.packed import Packed

FLOAT32 = 1e-5  # the largest relative difference from transformers in float32


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """The largest difference as a part of the largest expected value."""
    assert actual.shape == expected.shape
    return float((actual.float() - expected).abs().max() / expected.abs().max())


def transformers_model(folder: Path, make: Any = AutoModel) -> Any:
    return make.from_pretrained(folder).eval()


@torch.no_grad()
def hidden_states(
    model: PreTrainedModel, sequences: Sequence[Sequence[int]], types: Sequence[Sequence[int]] | None = None
) -> list[Tensor]:
    """The embeddings and each layer's output, (pieces, width) each: one sequence after the other, none padded."""
    outputs = []
    for i, sequence in enumerate(sequences):
        segments = {} if types is None else {"token_type_ids": torch.tensor([types[i]])}
        outputs.append(model(torch.tensor([sequence]), output_hidden_states=True, **segments).hidden_states)
    return [torch.cat([states[0] for states in of_layer]) for of_layer in zip(*outputs, strict=True)]


def random_sequences(lengths: Sequence[int], vocab_size: int) -> list[list[int]]:
    return [torch.randint(0, vocab_size, (length,)).tolist() for length in lengths]


def pack(sequences: Sequence[Sequence[int]], types: Sequence[Sequence[int]] | None = None) -> Packed:
    return Packed.from_lists(sequences, types)


def pieces_of_tokens(doc: Doc, offsets: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The pieces of each token: those that have a character of it, found character by character."""
    at: list[list[int]] = [[] for _ in doc.text]
    for piece, (start, end) in enumerate(offsets):
        for character in range(start, end):
            at[character].append(piece)
    return [sorted({p for c in range(token.idx, token.idx + len(token)) for p in at[c]}) for token in doc]


def token_vectors(folder: Path, doc: Doc, *, layer: int = -1) -> Tensor:
    """Each token's mean over its pieces, (tokens, width), of a Doc that fits into one window."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), transformers_model(folder)
    read = tokenizer(doc.text, return_offsets_mapping=True)
    states = hidden_states(model, [read["input_ids"]])[layer]
    rows = torch.zeros(len(doc), states.shape[1])
    for token, pieces in enumerate(pieces_of_tokens(doc, read["offset_mapping"][1:-1])):
        if pieces:
            rows[token] = states[[1 + piece for piece in pieces]].mean(0)
    return rows
