"""The slow and obvious ways to what the encoder computes: transformers on one sequence after the other, and loops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from spacy.tokens import Doc
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedModel

from spacy_distil.encoder.packed import Packed
from spacy_distil.encoder.pieces import Pieces, cut_windows

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


class Reference:
    """An encoder of Docs of any length, slowly: windows one after the other, each token's pieces from their home windows.

    Differentiable, where its model is in training. The windows are ours: `test_windows` tests them.
    """

    def __init__(self, folder: Path, *, window: int, overlap: int) -> None:
        self.model = transformers_model(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, model_max_length=10**9)
        self.window, self.overlap = window, overlap

    def __call__(self, docs: Sequence[Doc]) -> tuple[list[Tensor], list[Tensor]]:
        """Each Doc's hidden states of tokens, (1 + layers, tokens, width), and of `[CLS]`, (1 + layers, width)."""
        pairs = [self.encode(doc) for doc in docs]
        return [tokens for tokens, _ in pairs], [cls for _, cls in pairs]

    def encode(self, doc: Doc) -> tuple[Tensor, Tensor]:
        read = self.tokenizer(doc.text, add_special_tokens=False, return_offsets_mapping=True)
        ids, of_tokens = read["input_ids"], pieces_of_tokens(doc, read["offset_mapping"])
        starts, ends = ([pieces[i] if pieces else 0 for pieces in of_tokens] for i in (0, -1))
        after = [end + 1 if pieces else start for start, end, pieces in zip(starts, ends, of_tokens, strict=True)]
        pieces = Pieces(
            np.array(ids, dtype=int), np.array([len(ids)]), np.array(starts, dtype=int), np.array(after, dtype=int)
        )
        windows = cut_windows(pieces, window=self.window, overlap=self.overlap)
        bounds = [*windows.homes.tolist(), len(ids)]
        states, cls = [], []
        for w, (start, end) in enumerate(zip(windows.starts, windows.ends, strict=True)):
            sequence = [self.tokenizer.cls_token_id, *ids[start:end], self.tokenizer.sep_token_id]
            hidden = self.model(torch.tensor([sequence]), output_hidden_states=True).hidden_states
            layers = torch.stack([layer[0] for layer in hidden])
            states.append(layers[:, 1 + bounds[w] - start : 1 + bounds[w + 1] - start])
            cls.append(layers[:, 0])
        of_pieces = torch.cat(states, dim=1)
        rows = [of_pieces[:, row].mean(1) if row else torch.zeros_like(of_pieces[:, :0].sum(1)) for row in of_tokens]
        tokens = torch.stack(rows, dim=1) if rows else of_pieces[:, :0]
        return tokens, torch.stack(cls).mean(0)
