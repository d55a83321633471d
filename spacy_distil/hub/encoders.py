"""The encoder below a component, and an encoder of the one family as the other's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from spacy.language import Language
from spacy.pipeline.tok2vec import Tok2VecListener
from spacy.tokens import Doc
from thinc.api import Model

from spacy_distil.encoder.checkpoint import TYPES, Checkpoint, keep_layers
from spacy_distil.encoder.pieces import docs_to_pieces, first_pieces
from spacy_distil.encoder.shim import DistilBertShim
from spacy_distil.hub.names import Family
from spacy_distil.pipeline.distilbert import DistilBert
from spacy_distil.pipeline.encoders import encoders_of

Array = NDArray[Any]
N_TYPES = 2  # token types of a BERT


def find_encoder(nlp: Language, component: str) -> DistilBertShim | None:
    """The encoder that a component listens to, or has for its own; None where it has another, or none."""
    pipe = nlp.get_pipe(component)
    for _, other in nlp.pipeline:
        if isinstance(other, DistilBert) and component in other.listening_components:
            return other.shim
    return next(iter(encoders_of(pipe)), None)


def is_encoder(layer: Model) -> bool:
    """Whether a layer gives a row for each token, as an encoder or a listener to one does."""
    return isinstance(layer, Tok2VecListener) or any(isinstance(shim, DistilBertShim) for shim in layer.shims)


def token_rows(doc: Doc, of_pieces: Array, shim: DistilBertShim) -> tuple[Array, Array]:
    """What a Doc's tokens have of rows for its pieces: the numbers of the tokens that have pieces, and their rows.

    of_pieces: (pieces with `[CLS]` and `[SEP]`, columns)
    """
    pieces = docs_to_pieces([doc], shim.tokenizer)
    if shim.options.pooling == "first":
        pieces = first_pieces(pieces)
    seen = np.flatnonzero(pieces.token_ends > pieces.token_starts)
    inner = of_pieces[1:-1]
    rows = [inner[pieces.token_starts[i] : pieces.token_ends[i]].mean(axis=0) for i in seen]
    return seen, np.stack(rows) if rows else inner[:0]


def as_family(checkpoint: Checkpoint, family: Family) -> Checkpoint:
    """The same encoder in the words of BERT or DistilBERT: for a single segment it gives the same numbers."""
    if checkpoint.config.model_type == family:
        return checkpoint
    if family == "distilbert":
        return keep_layers(checkpoint, range(len(checkpoint.config.layers)))
    config = replace(checkpoint.config, n_types=N_TYPES)
    return replace(checkpoint, config=config, weights={**checkpoint.weights, TYPES: torch.zeros(N_TYPES, config.width)})


def without_pooler(checkpoint: Checkpoint) -> Checkpoint:
    """transformers' BERT has a pooler below a sequence classifier only, or as a bare encoder."""
    weights = {name: value for name, value in checkpoint.weights.items() if not name.startswith("pooler.")}
    return replace(checkpoint, config=replace(checkpoint.config, pooler=False), weights=weights)


@contextmanager
def in_float32(shim: DistilBertShim) -> Iterator[None]:
    """Let an encoder compute in float32, whatever its config says."""
    options = shim.options
    shim.options = replace(options, precision="float32")
    try:
        yield
    finally:
        shim.options = options
