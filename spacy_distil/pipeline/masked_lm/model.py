"""`spacy-distil.MaskedLM.v1`: scores of all pieces of the vocabulary for each masked one, as transformers computes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d
from thinc.util import torch2xp, xp2torch
from torch import Tensor

from spacy_distil.encoder.model import get_shim, has_dropout
from spacy_distil.encoder.module import activate
from spacy_distil.encoder.shim import DistilBertShim
from spacy_distil.pipeline.masked_lm.masking import Query

InT = Query
OutT = Floats2d
PARAMETERS = ("W", "b", "norm_G", "norm_b", "vocab_b")
INITIAL_STD = 0.02  # of BERT and DistilBERT


def MaskedLM(encoder: Model[list[Doc], list[Floats2d]]) -> Model[InT, OutT]:
    """A layer as wide as the encoder, its activation, a layer norm, and the scores of the vocabulary: (masks, pieces of the
    vocabulary). The last matrix is that of the word embeddings, and learns with them.

    The head of transformers' `DistilBertForMaskedLM` and `BertForMaskedLM`.

    encoder: `spacy-distil.DistilBert.v1`, the component's own.
    """
    get_shim(encoder)
    return Model("masked_lm", forward, init=init, layers=[encoder], params=dict.fromkeys(PARAMETERS))


def init(model: Model[InT, OutT], X: InT | None = None, Y: OutT | None = None) -> None:
    encoder = model.layers[0]
    encoder.initialize()
    width, vocab_size = encoder.get_dim("nO"), get_shim(encoder).encoder.config.vocab_size
    if model.has_param("W"):
        return
    weights = np.random.normal(scale=INITIAL_STD, size=(width, width)).astype("float32")
    values = (weights, np.zeros(width), np.ones(width), np.zeros(width), np.zeros(vocab_size))
    for name, value in zip(PARAMETERS, values, strict=True):
        model.set_param(name, model.ops.asarray(value.astype("float32")))  # type: ignore[arg-type]


def forward(model: Model[InT, OutT], query: InT, is_train: bool) -> tuple[OutT, Callable[[OutT], InT]]:
    encoder = model.layers[0]
    shim = get_shim(encoder)
    rows = query.rows.to(shim.device)
    parameters = {name: xp2torch(model.get_param(name)) for name in PARAMETERS}
    table = shim.encoder.embeddings.word_embeddings.weight
    if not is_train:
        with torch.inference_mode():
            hidden = shim.predict_sequences(query.sequences)[rows]
            return cast(OutT, torch2xp(_score(hidden, table, parameters, shim))), lambda d_logits: query

    hidden, backprop_encoder = shim.begin_update_sequences(query.sequences, dropout=has_dropout(encoder))
    leaves = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
    asked, tied = hidden[rows].requires_grad_(), table.detach().requires_grad_(table.requires_grad)
    logits = _score(asked, tied, leaves, shim)

    def backprop(d_logits: OutT) -> InT:
        torch.autograd.backward([logits], [xp2torch(d_logits, device=shim.device)])
        for name, leaf in leaves.items():
            model.inc_grad(name, torch2xp(leaf.grad))  # type: ignore[arg-type]
        d_hidden = torch.zeros_like(hidden)
        assert asked.grad is not None
        backprop_encoder(d_hidden.index_add_(0, rows, asked.grad))
        if tied.grad is not None:
            shim.add_gradient(table, tied.grad)
        return query

    return cast(OutT, torch2xp(logits.detach())), backprop


def _score(hidden: Tensor, table: Tensor, parameters: dict[str, Tensor], shim: DistilBertShim) -> Tensor:
    """(masks, width) -> (masks, pieces of the vocabulary)"""
    config = shim.encoder.config
    x = activate(F.linear(hidden, parameters["W"], parameters["b"]), config.activation)
    x = F.layer_norm(x, (config.width,), parameters["norm_G"], parameters["norm_b"], config.layer_norm_eps)
    return F.linear(x, table, parameters["vocab_b"])


def cross_entropy(logits: Floats2d, targets: np.ndarray) -> tuple[float, Floats2d]:
    """The sum over masks of the cross-entropy, and its gradient with respect to the logits.

    logits: (masks, pieces of the vocabulary).
    targets: (masks,) the pieces that stood there.
    """
    scores = xp2torch(logits)
    log_q = torch.log_softmax(scores, dim=1)
    at = torch.arange(len(targets)), torch.as_tensor(targets)
    gradient = log_q.exp()
    gradient[at] -= 1.0
    return -float(log_q[at].double().sum()), cast(Floats2d, torch2xp(gradient))
