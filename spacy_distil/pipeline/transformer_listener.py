"""spacy-transformers' listeners, fed by `distilbert`: a config of theirs works with its `transformer` block changed.

Sets `doc._.trf_data`, only where such a listener is in the pipeline: a row per token, so that their alignment and pooling of
word pieces have nothing left to do. This is the one file that talks to spacy-transformers, whose import waits for its listener.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from spacy.tokens import Doc
from thinc.api import Model, chain
from thinc.types import Floats2d, Ragged

from spacy_distil.encoder.model import ROWS, split_rows
from spacy_distil.encoder.shim import Encoded

LISTENER = "spacy-transformers.TransformerListener.v1"
REPLACED = "spacy-distil.TransformerTok2Vec.v1"


def is_one(node: Any) -> bool:
    module = sys.modules.get("spacy_transformers.layers.listener")
    return module is not None and isinstance(node, module.TransformerListener)


def prepare() -> None:
    """Give Docs the attribute that the listeners read."""
    from spacy_transformers.pipeline_component import install_extensions

    install_extensions()


def annotate(doc: Doc) -> None:
    """Set `doc._.trf_data` from the Doc's vectors."""
    doc._.trf_data = to_transformer_data(cast(Floats2d, doc.tensor))


def send(listener: Any, docs: list[Doc], encoded: Encoded, receive: Callable[[list[Floats2d]], list[Doc]]) -> None:
    """Hand a training batch to a listener, and pass its gradient on to `receive`."""
    outputs = [to_transformer_data(rows) for rows in split_rows(encoded, "tokens")]
    width = encoded.tokens.shape[1]
    listener.receive(listener.get_batch_id(docs), outputs, lambda d: receive(to_rows(d, width)))


def to_transformer_data(rows: Floats2d) -> Any:
    """(tokens, width) to a TransformerData in which each token has one piece. A Doc without tokens has an empty one."""
    from spacy_transformers.data_classes import TransformerData, WordpieceBatch
    from transformers.file_utils import ModelOutput

    n_tokens = len(rows)
    if not n_tokens:
        return TransformerData.empty()
    return TransformerData(
        wordpieces=WordpieceBatch.zeros([n_tokens]),
        model_output=ModelOutput(last_hidden_state=rows.reshape((1, *rows.shape))),
        align=Ragged(np.arange(n_tokens), np.ones(n_tokens, dtype="i")),  # type: ignore[arg-type]
    )


def to_rows(gradients: list[Any], width: int) -> list[Floats2d]:
    """TransformerData of gradients, which leave out Docs without tokens, to (tokens, width) for each Doc with tokens."""
    return [data.model_output.last_hidden_state.reshape(-1, width) for data in gradients]


def TransformerTok2Vec(
    encoder: Model[list[Doc], list[Floats2d]], pooling: Model[Ragged, Floats2d], grad_factor: float = 1.0
) -> Model[list[Doc], list[Floats2d]]:
    """What `replace_listeners` makes of a component with a TransformerListener: an encoder of its own in the listener's place.

    encoder: of the architecture `spacy-distil.DistilBert.v1`.
    pooling, grad_factor: the listener's.
    """
    from spacy_transformers.layers import trfs2arrays

    return chain(_with_transformer_data(encoder), trfs2arrays(pooling, grad_factor))


def replace_listener(copied: Model, listener: Model, tok2vec: Any = None) -> Model:
    """What stands in a listener's place after `replace_listeners`: a copy of the encoder that gives what the listener gave."""
    if is_one(listener):
        return _with_transformer_data(copied)
    copied.attrs[ROWS] = listener.attrs.get(ROWS, "tokens")
    return copied


def replace_listener_cfg(encoder_cfg: dict[str, Any], listener_cfg: dict[str, Any]) -> dict[str, Any]:
    """The config of what `replace_listener` makes."""
    if listener_cfg["@architectures"] != LISTENER:
        return encoder_cfg
    return {
        "@architectures": REPLACED,
        "encoder": encoder_cfg,
        "pooling": listener_cfg["pooling"],
        "grad_factor": listener_cfg.get("grad_factor", 1.0),
    }


def _with_transformer_data(encoder: Model[list[Doc], list[Floats2d]]) -> Model[list[Doc], list[Any]]:
    return chain(encoder, Model("rows_to_transformer_data", _forward))


def _forward(
    model: Model, rows: list[Floats2d], is_train: bool
) -> tuple[list[Any], Callable[[list[Any]], list[Floats2d]]]:
    def backprop(gradients: list[Any]) -> list[Floats2d]:
        return to_rows(gradients, rows[0].shape[1])

    return [to_transformer_data(part) for part in rows], backprop
