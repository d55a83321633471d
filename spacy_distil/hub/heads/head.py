"""What there is to know of a kind of head."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spacy.language import Language

from spacy_distil.encoder.precision import Precision
from spacy_distil.encoder.shim import DistilBertShim, Pooling
from spacy_distil.hub.model import HubFolder, HubModel

Floats = NDArray[Any]
Run = Callable[..., Mapping[str, Floats]]  # from a text, or a question and its passage

ENCODER = "distilbert"  # the name of the component that a head listens to


@dataclass(frozen=True)
class Setting:
    """What is asked for beside the checkpoint.

    name: of the component; None: its factory's.
    labels: names for the rows of a classifier; None: those of the config.
    precision: of the encoder.
    """

    name: str | None = None
    labels: Sequence[str] | None = None
    precision: Precision = "float32"

    def encoder(self, source: HubModel, **options: Any) -> dict[str, Any]:
        """The block of an encoder with the checkpoint's weights."""
        return {
            "@architectures": "spacy-distil.DistilBert.v1",
            "name": source.name,
            "revision": source.revision,
            "precision": self.precision,
            **options,
        }

    def add_encoder(self, nlp: Language, source: HubModel, pooling: Pooling = "mean") -> None:
        nlp.add_pipe(ENCODER, config={"model": self.encoder(source, pooling=pooling)})


@dataclass(frozen=True)
class Head:
    """A kind of head, and the component that it becomes.

    suffix: of transformers' classes, after `Bert` and `DistilBert`.
    outputs: names of what these classes give.
    add: puts the component, and the encoder that it listens to, with their weights into a blank pipeline; gives its name.
    can_write: whether a component can be written as this head.
    write: takes such a component and its encoder.
    difference: the largest difference between what a component of a pipeline says of some texts and what it should say after
        the outputs of a model, (pieces, …) or (labels,), on the same text.
    """

    suffix: str
    outputs: tuple[str, ...]
    add: Callable[[Language, HubModel, Setting], str]
    can_write: Callable[[Any], bool]
    write: Callable[[Any, DistilBertShim], HubFolder]
    difference: Callable[[Language, str, Sequence[str], Run], float]


def softmax(logits: Floats) -> Floats:
    """Over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-logits))


def initialize(nlp: Language, name: str, labels: Sequence[str]) -> None:
    """Initialise the pipeline, the component with these labels, in this order."""
    nlp.config["initialize"]["components"][name] = {"labels": list(labels)}
    nlp.initialize()


def labels_to_config(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }
