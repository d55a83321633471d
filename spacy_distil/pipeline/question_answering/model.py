"""`spacy-distil.QuestionAnswering.v1`: how well an answer starts and ends at each piece, as transformers computes it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from spacy.tokens import Doc
from thinc.api import Linear, Model, zero_init
from thinc.types import Floats2d
from thinc.util import torch2xp, xp2torch

from spacy_distil.encoder.model import get_shim, has_dropout
from spacy_distil.encoder.pieces import split_by_budget
from spacy_distil.encoder.sequences import Sequences

InT = Sequences
OutT = Floats2d
START, END = 0, 1  # columns of the output
PREDICTED_AT_ONCE = 32  # batches of the encoder whose hidden states are in memory together


def QuestionAnswering(encoder: Model[list[Doc], list[Floats2d]]) -> Model[InT, OutT]:
    """A linear layer on each piece's last hidden state: logits of start and end, (pieces, 2).

    The head of transformers' `DistilBertForQuestionAnswering` and `BertForQuestionAnswering`.

    encoder: `spacy-distil.DistilBert.v1`, the component's own.
    """
    get_shim(encoder)
    output: Model[Floats2d, Floats2d] = Linear(nO=2, init_W=zero_init)
    refs: dict[str, Model | None] = {"encoder": encoder, "output_layer": output}
    return Model("question_answering", forward, init=init, layers=[encoder, output], refs=refs)


def init(model: Model[InT, OutT], X: InT | None = None, Y: OutT | None = None) -> None:
    encoder, output = model.get_ref("encoder"), model.get_ref("output_layer")
    encoder.initialize()
    output.set_dim("nI", encoder.get_dim("nO"))
    if not output.has_param("W"):
        output.initialize()


def forward(model: Model[InT, OutT], sequences: InT, is_train: bool) -> tuple[OutT, Callable[[OutT], InT]]:
    encoder, output = model.get_ref("encoder"), model.get_ref("output_layer")
    shim = get_shim(encoder)
    if not is_train:
        parts = split_sequences(sequences, PREDICTED_AT_ONCE * shim.options.max_batch_pieces)
        logits = [output.predict(torch2xp(shim.predict_sequences(part))) for part in parts]
        return model.ops.xp.concatenate([model.ops.alloc2f(0, 2), *logits]), lambda d_logits: sequences
    hidden, backprop_encoder = shim.begin_update_sequences(sequences, dropout=has_dropout(encoder))
    scores, backprop_output = output.begin_update(torch2xp(hidden))

    def backprop(d_logits: OutT) -> InT:
        backprop_encoder(xp2torch(backprop_output(d_logits), device=shim.device))
        return sequences

    return scores, backprop


def split_sequences(sequences: Sequences, budget: int) -> list[Sequences]:
    """The same in parts of at most `budget` pieces, or of a single sequence: what bounds the memory of hidden states."""
    lengths = np.asarray(sequences.lengths, dtype=np.int64)
    ends = np.cumsum(lengths)
    parts = []
    for first, last in split_by_budget(lengths, budget):
        pieces = slice(int(ends[first] - lengths[first]), int(ends[last - 1]))
        types = None if sequences.types is None else sequences.types[pieces]
        parts.append(Sequences(sequences.ids[pieces], sequences.lengths[first:last], types))
    return parts
