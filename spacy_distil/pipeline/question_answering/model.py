"""`spacy-distil.QuestionAnswering.v1`: how well an answer starts and ends at each piece, as transformers computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from spacy.tokens import Doc
from thinc.api import Linear, Model, zero_init
from thinc.types import Floats2d
from thinc.util import torch2xp, xp2torch
from torch import Tensor

from spacy_distil.encoder.model import get_shim, has_dropout
from spacy_distil.encoder.pieces import split_by_budget
from spacy_distil.encoder.sequences import Sequences
from spacy_distil.encoder.shim import LAST

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
    if not is_train:
        logits = [scores for _, scores in predict_with_states(model, sequences, [])]
        return model.ops.xp.concatenate([model.ops.alloc2f(0, 2), *logits]), lambda d_logits: sequences
    _, scores, backprop_states = begin_update_with_states(model, sequences, [])

    def backprop(d_logits: OutT) -> InT:
        backprop_states(d_logits, None)
        return sequences

    return scores, backprop


def predict_with_states(
    model: Model[InT, OutT], sequences: InT, layers: Sequence[int]
) -> Iterator[tuple[Tensor, OutT]]:
    """Part by part of the sequences, the hidden states of these layers, (layers, pieces, width), and the logits, (pieces, 2).

    layers: 0 for the embeddings, i for the output of layer i.
    """
    shim, output = get_shim(model.get_ref("encoder")), model.get_ref("output_layer")
    for part in split_sequences(sequences, PREDICTED_AT_ONCE * shim.options.max_batch_pieces):
        states = shim.predict_states(part, [*layers, LAST])
        yield states[:-1], output.predict(torch2xp(states[-1]))


def begin_update_with_states(
    model: Model[InT, OutT], sequences: InT, layers: Sequence[int]
) -> tuple[Tensor, OutT, Callable[[OutT, Tensor | None], None]]:
    """The hidden states of these layers, (layers, pieces, width), the logits, (pieces, 2), and a callback from the gradients of
    the logits and, where there is one, of the states to the parameters'.

    layers: 0 for the embeddings, i for the output of layer i.
    """
    encoder, output = model.get_ref("encoder"), model.get_ref("output_layer")
    shim = get_shim(encoder)
    states, backprop_encoder = shim.begin_update_states(sequences, [*layers, LAST], dropout=has_dropout(encoder))
    scores, backprop_output = output.begin_update(torch2xp(states[-1]))

    def backprop(d_logits: OutT, d_states: Tensor | None) -> None:
        gradient = torch.zeros_like(states)
        gradient[-1] = xp2torch(backprop_output(d_logits), device=shim.device)
        if d_states is not None:
            gradient[:-1] = d_states
        backprop_encoder(gradient)

    return states[:-1], scores, backprop


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
