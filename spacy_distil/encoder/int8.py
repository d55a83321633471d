"""Matrix products in int8: weights with a scale for each row, inputs with one for all, or one for each piece.

What bounds it: the products, in which a processor with VNNI or AMX does two to four times the work of bfloat16; and the passes
that round the inputs. With calibrated inputs there are few of these: the neurons of a feed-forward layer come rounded out of
one product and go as they are into the next. Without VNNI there are more instructions to a product, and it still does up to
twice the work of float32.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spacy_distil.encoder.calibration import STEPS, TINY, Calibration, InputRange, to_uint8
from spacy_distil.encoder.inference import MakeProducts, Product, Products, linears
from spacy_distil.encoder.module import Layer, activate
from spacy_distil.encoder.storage import LARGEST, dequantize_rows, quantize_rows

# Without VNNI a processor adds two products at a time in 16 bits, and 2 * 255 * 64 is the most that fits.
LARGEST_OF_PAIRS = 64


class Int8Product(Product):
    """x W^T + b as a `Product` computes it, with W and x rounded: (rows, n_in) -> (rows, sum of n_out) in `dtype`.

    inputs: the range of x (static). None: each row has its own, so that what a text gets does not depend on the others in its
        batch (dynamic).
    outputs: round what `activated` gives to this range.
    largest: of the rounded weights, with which sums are right on this processor.
    """

    def __init__(
        self,
        layers: list[nn.Linear],
        dtype: torch.dtype,
        inputs: InputRange | None = None,
        outputs: InputRange | None = None,
        largest: int = LARGEST,
    ) -> None:
        weight = torch.cat([layer.weight.detach() for layer in layers])
        self.bias = torch.cat([layer.bias.detach() for layer in layers])
        if inputs is not None:
            weight = inputs.columns(weight)
        if outputs is not None:
            weight, self.bias = outputs.rows(weight, self.bias)
        values, self.scale = quantize_rows(weight, largest)
        self.sums = dequantize_rows(values, self.scale).sum(dim=1)
        self.weight = torch.ops.onednn.qlinear_prepack(values, None)
        self.zeros = torch.zeros(len(values), dtype=torch.int32)
        self.dtype, self.inputs, self.outputs = dtype, inputs, outputs

    def __call__(self, x: Tensor) -> Tensor:
        if self.inputs is None:
            return self._by_rows(x).to(self.dtype)
        return self._multiply(self._round(x), self.inputs)

    def activated(self, x: Tensor, activation: str) -> Tensor:
        """The activation of x W^T + b, in unsigned 8 bits where the range of the outputs is known, in float32 where each row
        has its own: so the next product rounds it without another pass."""
        if self.inputs is None:
            return activate(self._by_rows(x), activation)
        if activation != "gelu":
            result = activate(self._multiply(self._round(x), self.inputs), activation)
            return result if self.outputs is None else self.outputs.round(result)
        return self._multiply(self._round(x), self.inputs, "gelu", self.outputs)

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """x W^T + b + residual"""
        if self.inputs is None:
            return self._by_rows(x).add_(residual).to(self.dtype)
        return torch.ops.onednn.qlinear_pointwise.binary(
            self._round(x), self.inputs.scale, self.inputs.zero, self.weight, self.scale, self.zeros, residual, self.bias,
            1.0, 0, self.dtype, 1.0, 0, "add", 1.0, "none", [], "",
        )  # fmt: skip

    def _round(self, x: Tensor) -> Tensor:
        assert self.inputs is not None
        return x if x.dtype == torch.uint8 else self.inputs.round(x)

    def _multiply(
        self, x: Tensor, inputs: InputRange, activation: str = "none", outputs: InputRange | None = None
    ) -> Tensor:
        scale, zero, dtype = (1.0, 0, self.dtype) if outputs is None else (outputs.scale, outputs.zero, torch.uint8)
        return torch.ops.onednn.qlinear_pointwise(
            x, inputs.scale, inputs.zero, self.weight, self.scale, self.zeros, self.bias, scale, zero, dtype,
            activation, [], "none" if activation == "gelu" else "",
        )  # fmt: skip

    def _by_rows(self, x: Tensor) -> Tensor:
        """x = low + step * rounded, row by row, so that x W^T = low * (the sums of W's rows) + step * (rounded W^T)."""
        x = x.float()
        low, high = x.amin(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)  # in vectors; torch's aminmax is not
        step = ((high - low) / STEPS).clamp_(min=TINY)
        rounded = to_uint8((x - low).mul_(1 / step).add_(0.5))
        product = torch.ops.onednn.qlinear_pointwise(
            rounded, 1.0, 0, self.weight, self.scale, self.zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        of_rows = torch.cat([low, torch.ones_like(low)], dim=1)
        return product.mul_(step).addmm_(of_rows, torch.stack([self.sums, self.bias]))


def int8_products(calibration: Calibration | None, dtype: torch.dtype) -> MakeProducts:
    """What an `InferencePlan` takes to run in int8. calibration: None: dynamic."""
    largest = largest_weight()
    assert largest is not None, "resolve_precision has seen to it"

    def make(number: int, layer: Layer) -> Products:
        qkv, out, lin1, lin2 = linears(layer)
        inputs = [None] * 4 if calibration is None else calibration.inputs(number)
        return Products(
            Int8Product(qkv, dtype, inputs[0], largest=largest),
            Int8Product(out, dtype, inputs[1], largest=largest),
            Int8Product(lin1, dtype, inputs[2], outputs=inputs[3], largest=largest),
            Int8Product(lin2, dtype, inputs[3], largest=largest),
        )

    return make


@functools.cache
def largest_weight() -> int | None:
    """The largest rounded weight with which torch's int8 operators on oneDNN's blocked weights are right here; None: they are
    not here, or not right with any. They are not part of torch's public interface."""
    if torch.backends.mkldnn.is_available():
        for largest in (LARGEST, LARGEST_OF_PAIRS):
            if _products_are_right(largest):
                return largest
    return None


def _products_are_right(largest: int) -> bool:
    layer = nn.Linear(64, 32)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 1, 64 * 32).view(32, 64))
        layer.weight[0] = 1.0
    x = torch.linspace(0, 1, 4 * 64).view(4, 64)
    x[0] = 1.0  # with the row of ones: the largest sum
    expected, residual, outputs = F.linear(x, layer.weight, layer.bias), torch.ones(4, 32), InputRange(-1.0, 64.0)
    try:
        product = Int8Product([layer], torch.float32, InputRange(0.0, 1.0), outputs, largest)
        neurons = product.activated(x, "gelu")
        dynamic = Int8Product([layer], torch.float32, largest=largest)(x)
        pairs = [
            (product(x), expected),
            (product.add(x, residual), expected + residual),
            ((neurons.float() - outputs.zero) * outputs.scale, F.gelu(expected)),
            (dynamic, expected),
        ]
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    return neurons.dtype == torch.uint8 and all(torch.allclose(result, right, atol=0.5) for result, right in pairs)
