"""What an encoder of a shape takes on this machine: seconds, for a budget that is one of time."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch

from spacy_distil.encoder.config import EncoderConfig, LayerConfig
from spacy_distil.encoder.inference import InferencePlan
from spacy_distil.encoder.module import DistilBertEncoder
from spacy_distil.encoder.packed import Packed
from spacy_distil.encoder.pieces import N_SPECIAL
from spacy_distil.encoder.shim import DistilBertShim

ROUNDS = 7
PIECES = 4096  # of the batch at most
LEAST = 1e-9  # seconds: what a head or a neuron takes is never nothing, whatever the clock says


@dataclass(frozen=True)
class Seconds:
    """The time of a batch, as if heads, neurons, layers and what is beside them each took their own.

    beside: embeddings and all that is not a layer. layer: what each takes whatever its widths are.
    """

    beside: float
    layer: float
    head: float
    neuron: float

    def __call__(self, config: EncoderConfig) -> float:
        heads, neurons = (sum(row) for row in zip(*((i.n_heads, i.ffn_width) for i in config.layers), strict=True))
        return self.beside + len(config.layers) * self.layer + heads * self.head + neurons * self.neuron


def measure_seconds(shim: DistilBertShim, texts: Iterable[str]) -> Seconds:
    """Time encoders with fewer layers, heads and neurons on a batch like one of these texts."""
    config = shim.encoder.config
    whole = max(config.layers, key=lambda layer: layer.ffn_width)
    half = LayerConfig(-(-whole.n_heads // 2), -(-whole.ffn_width // 2))
    shapes = [
        [whole],
        [replace(whole, n_heads=half.n_heads)],
        [replace(whole, ffn_width=half.ffn_width)],
        [half, half],
        [whole, whole],
    ]
    batch = make_batch(shim, list(texts))
    plans = []
    for layers in shapes:
        encoder = DistilBertEncoder(replace(config, layers=tuple(layers))).to(shim.device).eval()
        plans.append(InferencePlan(encoder, shim.dtype))
    rows = [[1, len(s), sum(i.n_heads for i in s), sum(i.ffn_width for i in s)] for s in shapes]
    found, *_ = np.linalg.lstsq(np.array(rows, dtype=float), np.array(time_in_turn(plans, batch)), rcond=None)
    return Seconds(*(max(float(part), LEAST) for part in found))


def make_batch(shim: DistilBertShim, texts: Sequence[str]) -> Packed:
    """As many sequences as go into a batch, as long as texts that are drawn from these."""
    lengths = [min(len(e) + N_SPECIAL, shim.window) for e in shim.tokenizer.encode(texts)]
    drawn: list[int] = []
    room, rng = min(shim.options.max_batch_pieces, PIECES), random.Random(0)
    while (length := rng.choice(lengths)) <= room or not drawn:
        drawn.append(length)
        room -= length
    return Packed.from_ids(torch.zeros(sum(drawn), dtype=torch.long), sorted(drawn)).to(shim.device)


def time_in_turn(plans: Sequence[InferencePlan], batch: Packed) -> list[float]:
    """Seconds of each, the median of rounds that meet whatever else the machine does alike."""
    rounds = []
    for _ in range(1 + ROUNDS):
        taken = []
        for plan in plans:
            start = time.perf_counter()
            result = plan.last(batch)
            result[0, 0].item()  # waits for an accelerator
            taken.append(time.perf_counter() - start)
        rounds.append(taken)
    return [median(row) for row in zip(*rounds[1:], strict=True)]
