"""DistilBERT (Sanh et al. 2019) over packed sequences; with token types and a pooler it is BERT (Devlin et al. 2019).

The parameters have the names that transformers' `DistilBertModel` gives them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spacy_distil.encoder.attention import attend
from spacy_distil.encoder.config import EncoderConfig, LayerConfig
from spacy_distil.encoder.dropout import dropout
from spacy_distil.encoder.packed import Packed

_ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


def activate(x: Tensor, name: str) -> Tensor:
    return _ACTIVATIONS[name](x)


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """The layer in the precision of x: (rows, n_in) -> (rows, n_out). Gradients reach the layer's own parameters."""
    return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))


def normalize(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps)


class Embeddings(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.width)
        self.position_embeddings = nn.Embedding(config.max_positions, config.width)
        if config.n_types:
            self.token_type_embeddings = nn.Embedding(config.n_types, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.dropout = config.dropout

    def forward(self, packed: Packed) -> Tensor:
        """Returns (pieces, width) in float32."""
        x = self.word_embeddings(packed.ids) + self.position_embeddings(packed.positions)
        if hasattr(self, "token_type_embeddings"):
            rows = self.token_type_embeddings.weight
            x = x + (rows[0] if packed.types is None else rows[packed.types])
        return dropout(normalize(x, self.LayerNorm), self.dropout, self.training)


class Attention(nn.Module):
    def __init__(self, config: EncoderConfig, layer: LayerConfig) -> None:
        super().__init__()
        inner = layer.n_heads * config.head_width
        self.q_lin = nn.Linear(config.width, inner)
        self.k_lin = nn.Linear(config.width, inner)
        self.v_lin = nn.Linear(config.width, inner)
        self.out_lin = nn.Linear(inner, config.width)
        self.n_heads = layer.n_heads
        self.dropout = config.attention_dropout

    def forward(self, x: Tensor, packed: Packed) -> Tensor:
        qkv = torch.cat([linear(x, layer) for layer in (self.q_lin, self.k_lin, self.v_lin)], dim=1)
        context = attend(qkv, packed, self.n_heads, self.dropout if self.training else 0.0)
        return linear(context, self.out_lin)


class FeedForward(nn.Module):
    def __init__(self, config: EncoderConfig, layer: LayerConfig) -> None:
        super().__init__()
        self.lin1 = nn.Linear(config.width, layer.ffn_width)
        self.lin2 = nn.Linear(layer.ffn_width, config.width)
        self.activation = config.activation

    def forward(self, x: Tensor) -> Tensor:
        return linear(activate(linear(x, self.lin1), self.activation), self.lin2)


class Layer(nn.Module):
    def __init__(self, config: EncoderConfig, layer: LayerConfig) -> None:
        super().__init__()
        self.attention = Attention(config, layer)
        self.sa_layer_norm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.ffn = FeedForward(config, layer)
        self.output_layer_norm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.dropout = config.dropout
        # DistilBERT has no dropout after its attention's output; BERT has.
        self.attention_output_dropout = config.dropout if config.model_type == "bert" else 0.0

    def forward(self, x: Tensor, packed: Packed) -> Tensor:
        """(pieces, width) -> (pieces, width)"""
        attended = dropout(self.attention(x, packed), self.attention_output_dropout, self.training)
        x = normalize(attended + x, self.sa_layer_norm)
        fed = dropout(self.ffn(x), self.dropout, self.training)
        return normalize(fed + x, self.output_layer_norm)


class Layers(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config, layer) for layer in config.layers)


class Pooler(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)


class DistilBertEncoder(nn.Module):
    """The encoder.

    `pooler` is BERT's, over the last `[CLS]`. Token vectors do not need it; it is kept so that a BERT checkpoint
    is written back whole.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.transformer = Layers(config)
        if config.pooler:
            self.pooler = Pooler(config)

    @property
    def layers(self) -> list[Layer]:
        return list(self.transformer.layer)  # type: ignore[arg-type]

    @property
    def parts(self) -> list[nn.Module]:
        """What runs one after the other: the embeddings, then each layer."""
        return [self.embeddings, *self.layers]

    def forward(self, packed: Packed, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """Encode a batch.

        dtype: the precision of the layers; the embeddings are summed in float32.
        Returns the hidden states: the embeddings, then each layer's output, (pieces, width) each.
        """
        hidden = [self.embeddings(packed).to(dtype)]
        for layer in self.layers:
            hidden.append(layer(hidden[-1], packed))
        return hidden
