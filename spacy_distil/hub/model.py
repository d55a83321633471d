"""A Hugging Face model with a head, read and checked, and what of a component is written as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from spacy_distil.encoder.checkpoint import CONFIG, Checkpoint, find_folder, read_json, read_weights
from spacy_distil.encoder.config import EncoderConfig
from spacy_distil.errors import CheckpointError
from spacy_distil.hub.names import Family


@dataclass(frozen=True)
class HubModel:
    """A checkpoint as it was read.

    name, revision: as they were asked for.
    config: its config.json.
    weights: all of its tensors, by Hugging Face's names.
    """

    name: str
    revision: str | None
    config: dict[str, Any]
    weights: dict[str, Tensor]

    @property
    def where(self) -> str:
        """What to call it in an error."""
        return f"The checkpoint {self.name!r}"

    @property
    def family(self) -> Family:
        return cast(Family, self.config["model_type"])


@dataclass(frozen=True)
class HubFolder:
    """What is written of a component.

    checkpoint: its encoder.
    architecture: transformers' class.
    config: what config.json has beside the encoder's shape.
    head: the head's tensors by Hugging Face's names.
    notes: what a reader has to know to get the component's scores out of the model.
    """

    checkpoint: Checkpoint
    architecture: str
    config: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_model(name: str, revision: str | None = None) -> tuple[str, HubModel]:
    """The architecture that a checkpoint's config names, and the checkpoint.

    name, revision: see `load_checkpoint`.
    Raises CheckpointError for another family than BERT and DistilBERT, for a config without an architecture, and for what is
    missing or damaged.
    """
    folder: Path = find_folder(name, revision)
    config = read_json(folder / CONFIG)
    EncoderConfig.from_hf(config, where=f"The checkpoint {name!r}")
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or len(architectures) != 1:
        raise CheckpointError(
            f"The config.json of {name!r} has architectures = {architectures!r}, where the name of one class is expected, such "
            'as ["DistilBertForSequenceClassification"]. Add it.'
        )
    return str(architectures[0]), HubModel(name, revision, config, read_weights(folder, None))
