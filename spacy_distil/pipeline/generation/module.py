"""A Transformer decoder (Vaswani et al. 2017, section 3) in BERT's form: its layers are the encoder's, so that they can start
from the encoder's weights, and its output is BERT's head of a masked language model (Rothe et al. 2020, "Leveraging
Pre-trained Checkpoints for Sequence Generation Tasks").
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spacy_distil.encoder.dropout import dropout
from spacy_distil.encoder.module import activate, linear, normalize
from spacy_distil.encoder.packed import Packed
from spacy_distil.pipeline.generation.config import DecoderConfig
from spacy_distil.pipeline.generation.sources import Grid


class Embeddings(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        if not config.shared:
            self.word_embeddings = nn.Embedding(config.vocab_size, config.width)
        self.position_embeddings = nn.Embedding(config.max_positions, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.dropout = config.dropout

    def forward(self, ids: Tensor, positions: Tensor, words: Tensor) -> Tensor:
        """(pieces, width) in float32, of ids and positions, (pieces,), and word vectors, (vocabulary, width)."""
        x = F.embedding(ids, words) + self.position_embeddings(positions)
        return dropout(normalize(x, self.LayerNorm), self.dropout, self.training)


class Attention(nn.Module):
    def __init__(self, config: DecoderConfig, n_in: int) -> None:
        super().__init__()
        self.q_lin = nn.Linear(config.width, config.width)
        self.k_lin = nn.Linear(n_in, config.width)
        self.v_lin = nn.Linear(n_in, config.width)
        self.out_lin = nn.Linear(config.width, config.width)
        self.n_heads = config.n_heads
        self.dropout = config.attention_dropout

    def forward(self, x: Tensor, queries: Grid, memory: Tensor, keys: Grid, mask: Tensor) -> Tensor:
        """
        x: (pieces, width), laid out by `queries`.
        memory: (pieces, n_in), what is attended to, laid out by `keys`.
        mask: (sequences, 1, 1 or longest query, longest key), 0 where a query may look, minus infinity elsewhere.
        Returns (pieces, width).
        """
        q = self._heads(queries.pad(linear(x, self.q_lin)))
        k, v = (self._heads(keys.pad(linear(memory, layer))) for layer in (self.k_lin, self.v_lin))
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + mask
        weights = dropout(scores.softmax(dim=-1), self.dropout, self.training)
        context = queries.unpad((weights @ v).transpose(1, 2).flatten(2))
        return linear(F.pad(context, (0, 0, 0, len(x) - len(context))), self.out_lin)

    def _heads(self, grid: Tensor) -> Tensor:
        return grid.unflatten(2, (self.n_heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.lin1 = nn.Linear(config.width, config.ffn_width)
        self.lin2 = nn.Linear(config.ffn_width, config.width)
        self.activation = config.activation

    def forward(self, x: Tensor) -> Tensor:
        return linear(activate(linear(x, self.lin1), self.activation), self.lin2)


class Layer(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.attention = Attention(config, config.width)
        self.sa_layer_norm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.cross_attention = Attention(config, config.memory_width)
        self.ca_layer_norm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.ffn = FeedForward(config)
        self.output_layer_norm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.dropout = config.dropout

    def forward(
        self, x: Tensor, queries: Grid, memory: Tensor, keys: Grid, causal_mask: Tensor, memory_mask: Tensor
    ) -> Tensor:
        """(pieces, width) -> (pieces, width)"""
        x = self._add(x, self.attention(x, queries, x, queries, causal_mask), self.sa_layer_norm)
        x = self._add(x, self.cross_attention(x, queries, memory, keys, memory_mask), self.ca_layer_norm)
        return self._add(x, self.ffn(x), self.output_layer_norm)

    def _add(self, x: Tensor, update: Tensor, norm: nn.LayerNorm) -> Tensor:
        return normalize(x + dropout(update, self.dropout, self.training), norm)


class Head(nn.Module):
    """From hidden states to logits: a layer of its own, then the word vectors once more."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.activation = config.activation

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        x = normalize(activate(linear(x, self.dense), self.activation), self.LayerNorm)
        return F.linear(x, words.to(x.dtype), self.bias.to(x.dtype))


class Decoder(nn.Module):
    """The decoder. `words` are the encoder's word vectors where the two share them."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.head = Head(config)

    @property
    def layers(self) -> list[Layer]:
        return list(self.layer)  # type: ignore[arg-type]

    def forward(
        self,
        inputs: Packed,
        memory: Tensor,
        memory_lengths: tuple[int, ...],
        dtype: torch.dtype = torch.float32,
        words: Tensor | None = None,
    ) -> Tensor:
        """Logits of the piece that follows each input, as a text is learnt: all at once.

        inputs: the pieces of each text, the one that starts it first.
        memory: (source pieces, memory width), hidden states of the texts' sources, one after the other.
        memory_lengths: source pieces of each text.
        dtype: the precision of the layers; embeddings are summed in float32.
        Returns (pieces, vocabulary) in float32, filler left out.
        """
        words = self.words(words)
        device, n_pieces = memory.device, sum(inputs.lengths)
        queries, keys = Grid(inputs.lengths, device), Grid(memory_lengths, device)
        above = torch.full((queries.longest, queries.longest), float("-inf"), device=device, dtype=dtype).triu(1)
        beyond = torch.zeros(keys.keep.shape, device=device, dtype=dtype).masked_fill(~keys.keep, float("-inf"))
        x, memory = self.embeddings(inputs.ids, inputs.positions, words).to(dtype), memory.to(dtype)
        for layer in self.layers:
            x = layer(x, queries, memory, keys, above[None, None], beyond[:, None, None])
        return self.head(x, words)[:n_pieces].float()

    def words(self, shared: Tensor | None) -> Tensor:
        """(vocabulary, width), the word vectors: its own, or those that the encoder shares."""
        if self.config.shared:
            assert shared is not None
            return shared
        return self.embeddings.word_embeddings.weight
