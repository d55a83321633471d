"""What a token of several pieces gets: the mean of their hidden states, or the first."""

from __future__ import annotations

import pytest
import torch

from spacy_distil.encoder.model import DistilBert
from spacy_distil.errors import EncoderError
from tests.conftest import TEXTS
from tests.encoder.reference import FLOAT32, hidden_states, pieces_of_tokens, relative_error, transformers_model


def test_first_is_the_first_piece_of_each_token(make_encoder, make_doc, folder):
    docs = [make_doc(text) for text in TEXTS]
    model = make_encoder(pooling="first")
    tokenizer = model.shims[0].tokenizer
    for doc, rows in zip(docs, model.predict(docs), strict=True):
        encoding = tokenizer.encode([doc.text])[0]
        sequence = [tokenizer.cls_id, *encoding.ids, tokenizer.sep_id]
        states = hidden_states(transformers_model(folder), [sequence])[-1]
        of_tokens = pieces_of_tokens(doc, encoding.offsets)
        expected = torch.stack([states[1 + row[0]] if row else torch.zeros(32) for row in of_tokens])
        assert relative_error(torch.from_numpy(rows), expected) < FLOAT32


def test_the_gradient_of_the_first_piece_is_not_that_of_the_mean(make_encoder, make_doc):
    doc = make_doc("unbelievably")
    gradients = {}
    for pooling in ("first", "mean"):
        model = make_encoder(pooling=pooling, freeze=3)  # the last layer alone learns
        rows, backprop = model.begin_update([doc])
        backprop([rows[0] * 0 + 1])
        bias = model.shims[0].encoder.layers[-1].output_layer_norm.weight
        gradients[pooling] = bias.grad.clone()
    assert not torch.allclose(gradients["first"], gradients["mean"])


def test_an_unknown_pooling_is_named(folder):
    with pytest.raises(EncoderError, match=r"pooling = 'max'.*mean, first"):
        DistilBert(str(folder), pooling="max")  # type: ignore[arg-type]
