"""`spacy-distil.TextCatCls.v1`: text classification on `[CLS]`, as transformers does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from spacy.tokens import Doc
from thinc.api import Dropout, Linear, Logistic, Model, Relu, Softmax, chain
from thinc.layers.chain import init as init_chain
from thinc.types import Floats2d

from spacy_distil.encoder.model import ROWS
from spacy_distil.errors import EncoderError


def TextCatCls(
    tok2vec: Model[list[Doc], list[Floats2d]],
    exclusive_classes: bool,
    dropout: float = 0.2,
    activation: Literal["relu", "tanh"] = "relu",
    nO: int | None = None,
) -> Model[list[Doc], Floats2d]:
    """A classifier on the `[CLS]` vector: a layer as wide as the encoder, its activation, dropout, scores (docs, nO).

    The head of transformers' `DistilBertForSequenceClassification`, or with tanh that of `BertForSequenceClassification`,
    which takes BERT's pooler for the layer.

    tok2vec: `spacy-distil.DistilBertListener.v1` for the pipeline's shared encoder, or `spacy-distil.DistilBert.v1` for one of
        its own.
    exclusive_classes: softmax over the labels if true, else a sigmoid for each.
    dropout: before the output.
    activation: `relu` as DistilBERT, `tanh` as BERT.
    """
    sources = [node for node in tok2vec.walk() if ROWS in node.attrs]
    if not sources:
        raise EncoderError(
            "spacy-distil.TextCatCls.v1 needs the `[CLS]` vector, and its tok2vec is neither "
            f"spacy-distil.DistilBertListener.v1 nor spacy-distil.DistilBert.v1, but {tok2vec.name!r}."
        )
    for source in sources:
        source.attrs[ROWS] = "cls"
    if activation not in ("relu", "tanh"):
        raise EncoderError(f"activation = {activation!r} is not known. Known are relu and tanh.")
    hidden: Model[Floats2d, Floats2d] = Relu() if activation == "relu" else Linear()
    activated = hidden if activation == "relu" else chain(hidden, tanh())
    output: Model[Floats2d, Floats2d] = Softmax(nO=nO) if exclusive_classes else chain(Linear(nO=nO), Logistic())
    model: Model[list[Doc], Floats2d] = chain(tok2vec, stack_rows(), activated, Dropout(dropout), output)
    if nO is not None:
        model.set_dim("nO", nO)
    model.set_ref("tok2vec", tok2vec)
    model.set_ref("hidden", hidden)
    model.attrs["activation"] = activation
    model.set_ref("output_layer", output)
    model.attrs["multi_label"] = not exclusive_classes  # spaCy's textcats check it
    model.init = init
    return model


def init(model: Model[list[Doc], Floats2d], X: list[Doc] | None = None, Y: Floats2d | None = None) -> None:
    # The encoder knows its width only once it has its weights.
    tok2vec, hidden = model.get_ref("tok2vec"), model.get_ref("hidden")
    tok2vec.initialize(X=X)
    width = tok2vec.get_dim("nO")
    hidden.set_dim("nI", width)
    hidden.set_dim("nO", width)
    init_chain(model, X, Y)


def stack_rows() -> Model[list[Floats2d], Floats2d]:
    """A list of (1, width) arrays to one of (docs, width)."""
    return Model("stack_rows", _stack_rows)


def _stack_rows(
    model: Model[list[Floats2d], Floats2d], rows: list[Floats2d], is_train: bool
) -> tuple[Floats2d, Callable[[Floats2d], list[Floats2d]]]:
    def backprop(d_stacked: Floats2d) -> list[Floats2d]:
        return [d_stacked[i : i + 1] for i in range(len(d_stacked))]

    return model.ops.xp.concatenate(rows), backprop


def tanh() -> Model[Floats2d, Floats2d]:
    return Model("tanh", _tanh)


def _tanh(
    model: Model[Floats2d, Floats2d], X: Floats2d, is_train: bool
) -> tuple[Floats2d, Callable[[Floats2d], Floats2d]]:
    Y = model.ops.xp.tanh(X)
    return Y, lambda d_Y: d_Y * (1 - Y**2)
