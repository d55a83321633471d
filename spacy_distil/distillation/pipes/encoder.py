"""Encoders that several components share: spaCy's `tok2vec` and every subclass of it."""

from collections.abc import Callable
from typing import Any

from spacy.pipeline import Tok2Vec
from spacy.training import Example


class EncoderPass:
    """One forward pass of an encoder for all components that listen to it, and exactly one backward pass.

    spaCy runs the backward pass when the *last* listener backpropagates: never, if that listener's component is excluded
    or finds nothing to learn in the batch, and twice, if it backpropagates twice. Here the last listener only hands over
    its gradient, as all others do, and the backward pass runs when `backprop` is called.

    encoder: the component.
    examples: the batch; its `predicted` documents are encoded.
    drop: dropout rate.
    losses: gets the encoder's figure, the sum of the squared gradients that reached it.
    """

    def __init__(self, encoder: Tok2Vec, examples: list[Example], *, drop: float, losses: dict[str, float]) -> None:
        encoder.update(examples, drop=drop, sgd=None, losses=losses)
        self._ops = encoder.model.ops
        self._run: Callable[[list[Any]], Any] | None = None
        if encoder.listeners:
            last: Any = encoder.listeners[-1]
            self._shapes = [tokvecs.shape for tokvecs in last._outputs]
            self._d_tokvecs = self._zeros()
            self._run = last._backprop
            last._backprop = self._collect

    def backprop(self) -> None:
        """Run the backward pass. To be called once, after all components that listen have had their turn."""
        if self._run is not None:
            self._run(self._d_tokvecs)

    def _collect(self, d_tokvecs: list[Any]) -> list[Any]:
        for total, one in zip(self._d_tokvecs, d_tokvecs, strict=True):
            total += one
        return self._zeros()

    def _zeros(self) -> list[Any]:
        """A gradient for each document, (tokens, width)."""
        return [self._ops.alloc2f(*shape) for shape in self._shapes]
