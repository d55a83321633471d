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

KeysValues = tuple[Tensor, Tensor]
"""(sources, heads, places, head width) each"""


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
        """(rows, width) to (rows, vocabulary)"""
        return self.out(self.head_norm(self.dense.activated(x, self.activation)))


class Decoding:
    """Texts that are being written: rows, `n_beams` of them for each source, side by side.

    What has been read is never moved. The keys and values of all beams of a source lie in one place, and a mask says which
    of them belong to what a beam continues: their products cost a quarter of those of each beam's own copy, and there is
    nothing to copy when beams change.

    position: pieces that have been read.
    """

    def __init__(self, plan: DecoderPlan, memory: Tensor, lengths: Sequence[int], *, n_beams: int, limit: int) -> None:
        self.plan, self.n_beams, self.position = plan, n_beams, 0
        grid = Grid(lengths, memory.device)
        self._memory_mask = self._zeros(grid.keep.shape).masked_fill(~grid.keep, float("-inf"))[:, None, None]
        memory = memory.to(plan.dtype)
        self._memories = [layer.split_memory(grid.pad(layer.memory(memory))) for layer in plan.layers]
        n_places = 1 + (limit - 1) * n_beams  # all beams of a source start with the same piece
        self._caches = [layer.new_cache(len(lengths), n_places) for layer in plan.layers]
        self._mask = self._zeros((len(lengths), 1, n_beams, n_places))
        self._n_read = 0
        self._own = self._zeros((n_beams, n_beams)).fill_(float("-inf")).fill_diagonal_(0.0)

    def _zeros(self, shape: Sequence[int]) -> Tensor:
        return torch.zeros(tuple(shape), device=self.plan.words.device)

    @torch.inference_mode()
    def step(self, ids: Tensor) -> Tensor:
        """Read a piece for each row, (rows,), and give the logits of the next, (rows, vocabulary).

        All rows of a source start with the same piece.
        """
        ids = ids.to(self.plan.words.device)
        is_first = self.position == 0
        n_rows = 1 if is_first else self.n_beams  # of each source
        start, end = self._n_read, self._n_read + n_rows
        if not is_first:
            self._mask[..., start:end] = self._own
        mask = self._mask[:, :, :n_rows, :end] if self.n_beams > 1 else None
        x = self.plan.embed(ids[:: self.n_beams] if is_first else ids, self.position)
        for layer, cache, memory in zip(self.plan.layers, self._caches, self._memories, strict=True):
            x = layer(x, n_rows, cache, start, end, mask, memory, self._memory_mask)
        self.position, self._n_read = self.position + 1, end
        logits = self.plan.logits(x)
        return logits.repeat_interleave(self.n_beams, dim=0) if is_first else logits

    @torch.inference_mode()
    def reorder(self, rows: Tensor) -> None:
        """Let each row go on from another row of the same source: (rows,)."""
        parents = rows.to(self._mask.device).view(-1, 1, self.n_beams, 1) % self.n_beams
        past = self._mask[..., : self._n_read]
        past.copy_(past.gather(2, parents.expand(past.shape)))

    @torch.inference_mode()
    def keep(self, sources: Tensor) -> None:
        """Drop all sources but these, (sources kept,)."""
        sources = sources.to(self._mask.device)
        self._mask, self._memory_mask = (mask[sources] for mask in (self._mask, self._memory_mask))
        self._memories, self._caches = (
            [(keys[sources], values[sources]) for keys, values in kept] for kept in (self._memories, self._caches)
        )


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
        self.width = attention.q_lin.out_features

    def new_cache(self, n_sources: int, n_places: int) -> KeysValues:
        shape = n_sources, self.n_heads, n_places, self.width // self.n_heads
        return self.qkv.bias.new_empty(shape), self.qkv.bias.new_empty(shape)

    def split_memory(self, grid: Tensor) -> KeysValues:
        """Of (sources, length, 2 width). They are laid out as a cache is, so that no step copies them."""
        keys, values = (self._heads(part).contiguous() for part in grid.split(self.width, dim=2))
        return keys, values

    def __call__(
        self,
        x: Tensor,
        n_rows: int,
        cache: KeysValues,
        start: int,
        end: int,
        mask: Tensor | None,
        memory: KeysValues,
        memory_mask: Tensor,
    ) -> Tensor:
        """
        x: (sources * n_rows, width).
        cache: its places from `start` to `end` are those of these rows, and are filled.
        mask: (sources, 1, n_rows, end), which places belong to a row's past; None where all do.
        """
        q, k, v = (self._heads(part.unflatten(0, (-1, n_rows))) for part in self.qkv(x).split(self.width, dim=1))
        for kept, new in zip(cache, (k, v), strict=True):
            kept[:, :, start:end] = new
        past_keys, past_values = (kept[:, :, :end] for kept in cache)
        x = self.sa_norm(self.out.add(_attend(q, past_keys, past_values, mask), x))
        q = self._heads(self.query(x).unflatten(0, (-1, n_rows)))
        x = self.ca_norm(self.cross_out.add(_attend(q, *memory, memory_mask), x))
        neurons = self.lin1.activated(x, self.activation)
        return self.output_norm(self.lin2.add(neurons, x))

    def _heads(self, rows: Tensor) -> Tensor:
        """(sources, length, width) to (sources, heads, length, head width)"""
        return rows.unflatten(2, (self.n_heads, -1)).transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """(sources, heads, length, head width) each; the result is (sources * queries, width).

    For a few queries two products cost half of what torch's kernel does, which starts anew for each source and head.
    """
    scores = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).float()  # of short rows the softmax is faster in float32
    if mask is not None:
        scores += mask
    return (scores.softmax(dim=-1).to(v.dtype) @ v).transpose(1, 2).flatten(0, 1).flatten(1)
