"""The decoder for prediction: a piece at a time, with all keys and values of earlier pieces kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from spacy_distil.encoder.inference import Norm, Product
from spacy_distil.encoder.module import normalize
from spacy_distil.pipeline.generation.module import Decoder, Layer
from spacy_distil.pipeline.generation.sources import Grid


class DecoderPlan:
    """A snapshot of a decoder's weights in one precision, equal to its forward pass in evaluation mode."""

    def __init__(self, decoder: Decoder, dtype: torch.dtype, words: Tensor | None) -> None:
        self.dtype = dtype
        self.words = decoder.words(words).detach()
        self.positions = decoder.embeddings.position_embeddings.weight.detach()
        self.norm = decoder.embeddings.LayerNorm
        self.layers = [_LayerPlan(layer, dtype) for layer in decoder.layers]
        self.dense, self.head_norm = Product([decoder.head.dense], dtype), Norm(decoder.head.LayerNorm, dtype)
        self.activation = decoder.head.activation
        self.out = Product([_Output(self.words, decoder.head.bias)], dtype)  # type: ignore[list-item]

    @torch.inference_mode()
    def start(self, memory: Tensor, lengths: Sequence[int], *, n_beams: int, limit: int) -> Decoding:
        """Begin to write.

        memory: (source pieces, memory width), hidden states of the sources, one after the other.
        lengths: source pieces of each.
        n_beams: rows for each source, side by side.
        limit: the most pieces that will be written.
        """
        return Decoding(self, memory, lengths, n_beams=n_beams, limit=limit)

    def embed(self, ids: Tensor, position: int) -> Tensor:
        return normalize(F.embedding(ids, self.words) + self.positions[position], self.norm).to(self.dtype)

    def logits(self, x: Tensor) -> Tensor:
        """(rows, width) to (rows, vocabulary) in float32"""
        return self.out(self.head_norm(self.dense.activated(x, self.activation))).float()


class Decoding:
    """Texts that are being written: rows, `n_beams` of them for each source, side by side.

    position: pieces that have been read.
    """

    def __init__(self, plan: DecoderPlan, memory: Tensor, lengths: Sequence[int], *, n_beams: int, limit: int) -> None:
        self.plan, self.n_beams, self.position = plan, n_beams, 0
        grid = Grid(lengths, memory.device)
        beyond = torch.zeros(grid.keep.shape, device=memory.device, dtype=plan.dtype)
        self._mask = beyond.masked_fill(~grid.keep, float("-inf"))[:, None, None]
        memory = memory.to(plan.dtype)
        self._memories = [grid.pad(layer.memory(memory)) for layer in plan.layers]
        n_rows = len(lengths) * n_beams
        self._caches = [memory.new_empty(n_rows, limit, layer.keys_values) for layer in plan.layers]

    @torch.inference_mode()
    def step(self, ids: Tensor) -> Tensor:
        """Read a piece for each row, (rows,), and give the logits of the next, (rows, vocabulary)."""
        x = self.plan.embed(ids.to(self._mask.device), self.position)
        for layer, cache, memory in zip(self.plan.layers, self._caches, self._memories, strict=True):
            x = layer(x, cache, self.position, memory, self._mask, self.n_beams)
        self.position += 1
        return self.plan.logits(x)

    @torch.inference_mode()
    def reorder(self, rows: Tensor) -> None:
        """Let each row go on from another row of the same source: (rows,)."""
        rows = rows.to(self._mask.device)
        moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
        for cache in self._caches:
            past = cache[:, : self.position]
            past[moved] = past[rows[moved]]

    @torch.inference_mode()
    def keep(self, sources: Tensor) -> None:
        """Drop all sources but these, (sources kept,)."""
        sources = sources.to(self._mask.device)
        rows = (sources[:, None] * self.n_beams + torch.arange(self.n_beams, device=sources.device)).flatten()
        self._caches = [cache.index_select(0, rows) for cache in self._caches]
        self._memories = [memory.index_select(0, sources) for memory in self._memories]
        self._mask = self._mask.index_select(0, sources)


class _Output:
    """The word vectors as a linear layer."""

    def __init__(self, words: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = words, bias


class _LayerPlan:
    def __init__(self, layer: Layer, dtype: torch.dtype) -> None:
        attention, cross = layer.attention, layer.cross_attention
        self.qkv = Product([attention.q_lin, attention.k_lin, attention.v_lin], dtype)
        self.out = Product([attention.out_lin], dtype)
        self.query, self.memory = Product([cross.q_lin], dtype), Product([cross.k_lin, cross.v_lin], dtype)
        self.cross_out = Product([cross.out_lin], dtype)
        self.lin1, self.lin2 = Product([layer.ffn.lin1], dtype), Product([layer.ffn.lin2], dtype)
        self.sa_norm, self.ca_norm = Norm(layer.sa_layer_norm, dtype), Norm(layer.ca_layer_norm, dtype)
        self.output_norm = Norm(layer.output_layer_norm, dtype)
        self.n_heads, self.activation = attention.n_heads, layer.ffn.activation
        self.keys_values = 2 * attention.k_lin.out_features

    def __call__(self, x: Tensor, cache: Tensor, position: int, memory: Tensor, mask: Tensor, n_beams: int) -> Tensor:
        qkv = self.qkv(x)
        width = self.keys_values // 2
        cache[:, position] = qkv[:, width:]
        k, v = self._keys_values(cache[:, : position + 1])
        q = qkv[:, None, :width].unflatten(2, (self.n_heads, -1)).transpose(1, 2)
        context = _attend(q, k, v).flatten(1)
        x = self.sa_norm(self.out.add(context, x))
        q = self.query(x).view(len(memory), n_beams, self.n_heads, -1).transpose(1, 2)
        k, v = self._keys_values(memory)
        context = _attend(q, k, v, mask).reshape(len(x), -1)
        x = self.ca_norm(self.cross_out.add(context, x))
        neurons = self.lin1.activated(x, self.activation)
        return self.output_norm(self.lin2.add(neurons, x))

    def _keys_values(self, rows: Tensor) -> Tensor:
        """(rows, length, keys and values) to (2, rows, heads, length, head width)"""
        return rows.unflatten(2, (2, self.n_heads, -1)).permute(2, 0, 3, 1, 4)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """(rows, heads, length, head width) each; the result is (rows, queries, heads, head width).

    For a few queries two products cost half of what torch's kernel does, which starts anew for each row and head.
    """
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores += mask
    return (scores.softmax(dim=-1) @ v).transpose(1, 2)
