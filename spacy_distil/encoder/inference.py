"""The forward pass for prediction: no gradient, weights laid out once for the processor, few passes over memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spacy_distil.encoder.attention import attend
from spacy_distil.encoder.module import DistilBertEncoder, Embeddings, Layer, activate
from spacy_distil.encoder.packed import Packed


class InferencePlan:
    """A snapshot of an encoder's weights in one precision, equal to its forward pass in evaluation mode.

    What bounds it: the matrix products, and for a single short text reading the weights from memory. So the weights
    are copied into oneDNN's own blocked layout once, which halves the time of a short text, and bias, residual and
    activation are computed while a product's results are still in cache.
    """

    def __init__(self, encoder: DistilBertEncoder, dtype: torch.dtype, products: MakeProducts | None = None) -> None:
        """products: makes those of a layer, from its number and itself; None: in `dtype`, as all else."""
        self.embeddings: Embeddings = encoder.embeddings
        self.dtype = dtype
        self.layers = []
        for i, layer in enumerate(encoder.layers):
            made = Products(*(Product(of, dtype) for of in linears(layer))) if products is None else products(i, layer)
            self.layers.append(_LayerPlan(layer, dtype, made))

    @torch.inference_mode()
    def last(self, packed: Packed) -> Tensor:
        """The last hidden state: (pieces, width)."""
        x = self._embed(packed)
        for layer in self.layers:
            x = layer(x, packed)
        return x

    @torch.inference_mode()
    def all(self, packed: Packed) -> list[Tensor]:
        """The embeddings and each layer's output: (pieces, width) each."""
        hidden = [self._embed(packed)]
        for layer in self.layers:
            hidden.append(layer(hidden[-1], packed))
        return hidden

    def _embed(self, packed: Packed) -> Tensor:
        training = self.embeddings.training
        self.embeddings.eval()
        x = self.embeddings(packed).to(self.dtype)
        self.embeddings.train(training)
        return x


class _LayerPlan:
    def __init__(self, layer: Layer, dtype: torch.dtype, products: Products) -> None:
        self.qkv, self.out, self.lin1, self.lin2 = products
        self.sa_norm = Norm(layer.sa_layer_norm, dtype)
        self.output_norm = Norm(layer.output_layer_norm, dtype)
        self.n_heads, self.activation = layer.attention.n_heads, layer.ffn.activation

    def __call__(self, x: Tensor, packed: Packed) -> Tensor:
        context = attend(self.qkv(x), packed, self.n_heads)
        x = self.sa_norm(self.out.add(context, x))
        neurons = self.lin1.activated(x, self.activation)
        return self.output_norm(self.lin2.add(neurons, x))


class Norm:
    def __init__(self, norm: nn.LayerNorm, dtype: torch.dtype) -> None:
        self.shape, self.eps = norm.normalized_shape, norm.eps
        self.weight, self.bias = norm.weight.detach().to(dtype), norm.bias.detach().to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.shape, self.weight, self.bias, self.eps)


class Product:
    """x W^T + b for linear layers side by side: (rows, n_in) -> (rows, sum of n_out)."""

    def __init__(self, layers: list[nn.Linear], dtype: torch.dtype) -> None:
        weight = torch.cat([layer.weight.detach() for layer in layers]).to(dtype)
        self.bias = torch.cat([layer.bias.detach() for layer in layers]).to(dtype)
        self.blocked = weight.device.type == "cpu" and has_blocked_products(dtype)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight) if self.blocked else weight

    def __call__(self, x: Tensor) -> Tensor:
        if self.blocked:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], None)
        return F.linear(x, self.weight, self.bias)

    def activated(self, x: Tensor, activation: str) -> Tensor:
        """The activation of x W^T + b"""
        if self.blocked and activation == "gelu":
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "gelu", [], "none")
        return activate(self(x), activation)

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """x W^T + b + residual"""
        if self.blocked:
            return torch.ops.mkldnn._linear_pointwise.binary(x, residual, self.weight, self.bias, "add")
        return F.linear(x, self.weight, self.bias).add_(residual)


class Products(NamedTuple):
    """The matrix products of a layer."""

    qkv: Product
    out: Product
    lin1: Product
    lin2: Product


MakeProducts = Callable[[int, Layer], Products]


def linears(layer: Layer) -> list[list[nn.Linear]]:
    """What stands side by side in each of a layer's `Products`."""
    attention, ffn = layer.attention, layer.ffn
    return [[attention.q_lin, attention.k_lin, attention.v_lin], [attention.out_lin], [ffn.lin1], [ffn.lin2]]


@functools.cache
def has_blocked_products(dtype: torch.dtype) -> bool:
    """Whether torch's operators on oneDNN's blocked weights are here and right. They are not part of its public interface."""
    if not torch.backends.mkldnn.is_available():
        return False
    x, weight, bias = (
        torch.linspace(-1, 1, n).view(shape).to(dtype) for n, shape in ((64, (2, 32)), (512, (16, 32)), (16, (16,)))
    )
    try:
        blocked = torch.ops.mkldnn._reorder_linear_weight(weight)
        product = torch.ops.mkldnn._linear_pointwise(x, blocked, bias, "none", [], None)
        added = torch.ops.mkldnn._linear_pointwise.binary(x, product, blocked, bias, "add")
        activated = torch.ops.mkldnn._linear_pointwise(x, blocked, bias, "gelu", [], "none")
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    expected = F.linear(x, weight, bias)
    pairs = ((product, expected), (added, 2 * expected), (activated, F.gelu(expected)))
    return all(torch.allclose(result, right, atol=0.2) for result, right in pairs)
