"""How the inputs of an encoder's products are rounded in unsigned 8 bits, as texts have shown them.

All channels of an input share one range, which a few large ones would make coarse for the others. Against that:

- Inputs that come from a norm are divided, channel by channel, by powers of two, with which the columns of the matrix are
  multiplied (SmoothQuant, Xiao et al. 2022; that they are powers of two makes it exact). Rounding divides by something anyway.
- A neuron that goes further than the others is cut into copies, each for the next part of its way: with the range ending at h,
  gelu(x) is near min(gelu(x), h) + min(gelu(x - h), h) + ..., as gelu is near 0 below zero and near x above.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from spacy_distil.encoder.config import EncoderConfig
from spacy_distil.encoder.inference import Product, Products, linears
from spacy_distil.encoder.module import Layer

STEPS = 255  # of inputs, in unsigned 8 bits
TINY = 1e-12
# Measured: from 0.5 to 0.8 the vectors are about as near to float32, and columns grow coarse beyond.
STRENGTH = 0.65
LARGEST_EXPONENT = 8
# Further copies in a layer, a hundredth of MiniLM's neurons. Four already bring most of what there is; with 16 a number of
# neurons that fills the processor's registers goes on doing so.
FURTHER_COPIES = 16
SHORTEST = 4.0  # a range that is not cut: ends closer together would lie in the bend of gelu
RANGES, EXPONENTS, COPIES = "input_ranges", "input_exponents", "neuron_copies"
DIVIDED = (("attention.q_lin", "attention.k_lin", "attention.v_lin"), ("ffn.lin1",))
"""What the outputs of a layer's norms go into: those of the one before it, and of the one inside."""


def to_uint8(x: Tensor) -> Tensor:
    """Cut off what follows the point of values from 0 to below 256: in vectors by way of int16, where torch's own conversion
    goes value by value, five times as slow."""
    return x.to(torch.int16).to(torch.uint8)


@dataclass(frozen=True, eq=False)
class InputRange:
    """What the inputs of a product were between when it was calibrated, zero included; what is beyond is cut off.

    powers: (n_in,) by which the channels are divided first.
    copies: (n_in,) into how many each channel, a neuron, is cut; the range is that of one.
    """

    low: float
    high: float
    powers: Tensor | None = None
    copies: Tensor | None = None

    @property
    def scale(self) -> float:
        return max((self.high - self.low) / STEPS, TINY)

    @property
    def zero(self) -> int:
        return round(-self.low / self.scale)

    def round(self, x: Tensor) -> Tensor:
        """Unsigned 8 bits, of which `zero` stands for 0."""
        half_up = torch.tensor(self.zero + 0.5)
        if self._steps is None:
            scaled = torch.add(half_up, x.float(), alpha=1 / self.scale)
        else:
            scaled = torch.addcmul(half_up, x.float(), self._steps)
        return to_uint8(scaled.clamp_(0, STEPS))

    @cached_property
    def _steps(self) -> Tensor | None:
        return None if self.powers is None else (1 / self.scale) / self.powers

    def columns(self, weight: Tensor) -> Tensor:
        """The matrix for inputs that are rounded so: (n_out, n_in) -> (n_out, sum of copies)."""
        if self.powers is not None:
            weight = weight * self.powers
        return weight if self.copies is None else weight.repeat_interleave(self.copies, dim=1)

    def rows(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of what gives such inputs: a copy begins where the one before it ends."""
        if self.copies is None:
            return weight, bias
        number = torch.cat([torch.arange(n) for n in self.copies.tolist()])
        return weight.repeat_interleave(self.copies, dim=0), bias.repeat_interleave(self.copies) - self.high * number


@dataclass(frozen=True, eq=False)
class Calibration:
    """How the inputs of all products of an encoder are rounded.

    ranges: (layers, products of a layer, low and high), zero included, of inputs that are divided and cut already.
    exponents: (layers, 2, width) in int8, of the powers of two that divide the inputs of q, k and v, and those of lin1.
    copies: of each layer (neurons,), into how many each is cut.
    """

    ranges: Tensor
    exponents: Tensor
    copies: tuple[Tensor, ...]

    def inputs(self, number: int) -> list[InputRange]:
        """Those of a layer's products."""
        qkv, out, lin1, lin2 = self.ranges[number].tolist()
        of_qkv, of_lin1 = torch.ldexp(torch.ones(self.exponents[number].shape), self.exponents[number])
        return [
            InputRange(qkv[0], qkv[1], powers=of_qkv),
            InputRange(out[0], out[1]),
            InputRange(lin1[0], lin1[1], powers=of_lin1),
            InputRange(lin2[0], lin2[1], copies=self.copies[number]),
        ]

    def multiplied(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """An encoder's weights with the columns multiplied, as they are rounded."""
        return _scale_columns(weights, self.exponents)

    def divided(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of what `multiplied` has given, and of what was rounded after it."""
        return _scale_columns(weights, -self.exponents)

    def to_tensors(self) -> dict[str, Tensor]:
        return {RANGES: self.ranges, EXPONENTS: self.exponents, COPIES: torch.cat(self.copies).to(torch.int16)}

    @classmethod
    def pop(cls, tensors: dict[str, Tensor], config: EncoderConfig) -> Calibration | None:
        """Take what `to_tensors` gave out of the tensors of a file. Raises ValueError where it does not fit the config."""
        ranges = tensors.pop(RANGES, None)
        if ranges is None:
            return None
        n_layers, sizes = len(config.layers), [layer.ffn_width for layer in config.layers]
        # Files of the first days of int8 have ranges alone.
        exponents = tensors.pop(EXPONENTS, torch.zeros(n_layers, len(DIVIDED), config.width, dtype=torch.int8))
        copies = tensors.pop(COPIES, torch.ones(sum(sizes), dtype=torch.int16))
        _check(ranges, RANGES, (n_layers, len(Products._fields), 2), torch.float32)
        _check(exponents, EXPONENTS, (n_layers, len(DIVIDED), config.width), torch.int8)
        _check(copies, COPIES, (sum(sizes),), torch.int16)
        if exponents.abs().max() > LARGEST_EXPONENT or copies.min() < 1 or not ranges.isfinite().all():
            raise ValueError("its calibration is out of bounds")
        return cls(ranges, exponents, copies.long().split(sizes))


def _check(tensor: Tensor, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if tensor.shape != shape or tensor.dtype != dtype:
        raise ValueError(f"{name!r} is not {shape} in {dtype}")


def _scale_columns(weights: Mapping[str, Tensor], exponents: Tensor) -> dict[str, Tensor]:
    scaled = dict(weights)
    for number, of_layer in enumerate(exponents):
        for names, of_input in zip(DIVIDED, of_layer, strict=True):
            for name in names:
                key = f"transformer.layer.{number}.{name}.weight"
                scaled[key] = torch.ldexp(weights[key], of_input.to(weights[key].device))
    return scaled


class InputRecorder:
    """Runs an encoder in float32 and notes what each channel of its products' inputs is between."""

    def __init__(self) -> None:
        self.seen: dict[tuple[int, int], Tensor] = {}

    def __call__(self, number: int, layer: Layer) -> Products:
        return Products(*(_Recorded(of, self, (number, i)) for i, of in enumerate(linears(layer))))

    def note(self, place: tuple[int, int], x: Tensor) -> None:
        zeros = x.new_zeros(2, x.shape[1])
        low, high = self.seen.get(place, zeros)
        self.seen[place] = torch.stack([torch.minimum(low, x.amin(dim=0)), torch.maximum(high, x.amax(dim=0))])

    @property
    def calibration(self) -> Calibration | None:
        """None where nothing has run."""
        if not self.seen:
            return None
        ranges, exponents, copies = [], [], []
        for number in range(len(self.seen) // len(Products._fields)):
            qkv, out, lin1, lin2 = (self.seen[number, i].cpu() for i in range(len(Products._fields)))
            divisors, cuts = [_choose_exponents(qkv), _choose_exponents(lin1)], _choose_copies(lin2[1])
            qkv, lin1 = (torch.ldexp(seen, -of) for seen, of in zip((qkv, lin1), divisors, strict=True))
            lin2 = torch.stack([lin2[0], lin2[1] / cuts])
            ranges.append(torch.stack([torch.stack([of[0].min(), of[1].max()]) for of in (qkv, out, lin1, lin2)]))
            exponents.append(torch.stack(divisors))
            copies.append(cuts)
        return Calibration(torch.stack(ranges), torch.stack(exponents), tuple(copies))


def _choose_exponents(seen: Tensor) -> Tensor:
    """(low and high, channels) to (channels,) in int8: a share of what a channel is larger than the one in the middle."""
    largest = seen.abs().amax(dim=0).clamp(min=TINY).log2()
    exponents = (STRENGTH * (largest - largest.median())).round()
    return exponents.clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT).to(torch.int8)


def _choose_copies(highs: Tensor) -> Tensor:
    """(neurons,) to (neurons,): the next copy is for the neuron of which one goes furthest."""
    copies = torch.ones(len(highs), dtype=torch.long)
    for _ in range(FURTHER_COPIES):
        high, neuron = (highs / copies).max(dim=0)
        if high > SHORTEST:
            copies[neuron] += 1
    return copies


class _Recorded(Product):
    def __init__(self, layers: list[nn.Linear], recorder: InputRecorder, place: tuple[int, int]) -> None:
        super().__init__(layers, torch.float32)
        self.recorder, self.place = recorder, place

    def __call__(self, x: Tensor) -> Tensor:
        self.recorder.note(self.place, x)
        return super().__call__(x)

    def activated(self, x: Tensor, activation: str) -> Tensor:
        self.recorder.note(self.place, x)
        return super().activated(x, activation)

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        self.recorder.note(self.place, x)
        return super().add(x, residual)
