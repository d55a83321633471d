"""The kinds of heads that are read and written: one file each."""

from __future__ import annotations

from typing import Any

from spacy_distil.errors import CheckpointError
from spacy_distil.hub.heads import bare, masked_lm, question_answering, sequence_classification, token_classification
from spacy_distil.hub.heads.head import Head

HEADS = tuple(
    Head(module.SUFFIX, outputs, module.add, module.can_write, module.write, module.difference)
    for module, outputs in (
        (sequence_classification, ("logits",)),
        (token_classification, ("logits",)),
        (question_answering, ("start_logits", "end_logits")),
        (masked_lm, ("logits",)),
        (bare, ("last_hidden_state",)),
    )
)


def head_of_architecture(architecture: str, name: str) -> Head:
    """The head that a class of transformers' has.

    name: of the checkpoint, for the error.
    Raises CheckpointError for a class that is not supported.
    """
    for head in HEADS:
        if architecture in (f"Bert{head.suffix}", f"DistilBert{head.suffix}"):
            return head
    supported = ", ".join(f"(Distil)Bert{head.suffix}" for head in HEADS)
    raise CheckpointError(f"The checkpoint {name!r} is a {architecture}. Supported are {supported}.")


def head_of_component(pipe: Any) -> Head | None:
    """The head that a component can be written as, None where there is none."""
    return next((head for head in HEADS if head.can_write(pipe)), None)
