"""Encoders that several components share: spaCy's `tok2vec` and every subclass of it."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from spacy.pipeline import Tok2Vec
from spacy.training import Example
from thinc.util import torch2xp, xp2torch

from spacy_distil.pipeline.distilbert import DistilBert, PendingUpdate


class EncoderPass:
    """One forward pass of an encoder for all components that listen to it, and exactly one backward pass.

    spaCy runs the backward pass when the *last* listener backpropagates: never, if that listener's component is excluded
    or finds nothing to learn in the batch, and twice, if it backpropagates twice. Here the last listener only hands over
    its gradient, as all others do, and the backward pass runs when `backprop` is called.

    encoder: the component.
    examples: the batch; its `predicted` documents are encoded.
    drop: dropout rate.
    losses: gets the encoder's figure, the sum of the squared gradients that reached it.
    layers: the hidden states to give as `states`; of an encoder that gives its output alone, anything else than none.
    """

    def __init__(
        self,
        encoder: Tok2Vec,
        examples: list[Example],
        *,
        drop: float,
        losses: dict[str, float],
        layers: Sequence[int] = (),
    ) -> None:
        self._pending: PendingUpdate | None = None
        if layers and isinstance(encoder, DistilBert):
            self._pending = encoder.begin_update(examples, drop=drop, losses=losses, layers=layers)
        else:
            encoder.update(examples, drop=drop, sgd=None, losses=losses)
        self._ops = encoder.model.ops
        listeners: list[Any] = list(encoder.listeners)
        self._last = listeners[-1] if listeners else None
        self._gradients: list[Any] = []
        if self._last is not None:
            self._outputs, self._backprop = self._last._outputs, self._last._backprop
            self._last._backprop = self._collect

    @property
    def states(self) -> torch.Tensor | None:
        """(layers, tokens, width) of all documents; None where nobody listens, so that the encoder did not run."""
        if self._pending is not None:
            return self._pending.encoded.layers
        return None if self._last is None else xp2torch(self._ops.xp.concatenate(self._outputs))[None]

    def add(self, gradient: torch.Tensor) -> None:
        """Add a gradient with respect to `states`, of its shape."""
        if self._pending is not None:
            self._pending.receive_layers(gradient)
        else:
            parts = torch.split(gradient[0], [len(rows) for rows in self._outputs])
            self._gradients.append([torch2xp(part) for part in parts])

    def backprop(self) -> None:
        """Run the backward pass. To be called once, after all components that listen have had their turn."""
        if self._last is None:
            return
        if self._last._backprop == self._collect:  # spacy-transformers' listeners take it off once it has been called
            self._last._backprop = self._backprop
        if self._gradients:
            self._backprop(reduce(_add, self._gradients))
        elif all(hasattr(rows, "shape") for rows in self._outputs):
            self._backprop([self._ops.alloc2f(*rows.shape) for rows in self._outputs])
        # Other outputs are those of spacy-transformers' listeners. `distilbert`, which feeds them, needs no last gradient.

    def _collect(self, gradient: Any) -> list[Any]:
        self._gradients.append(gradient)
        return []


def _add(one: list[Any], other: list[Any]) -> list[Any]:
    return [a + b for a, b in zip(one, other, strict=True)]
