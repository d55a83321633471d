"""`spacy-distil.ScaledGradient.v1`: how much a component has to say in what its encoder learns."""

from __future__ import annotations

from collections.abc import Callable

from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d

InT = list[Doc]
OutT = list[Floats2d]


def ScaledGradient(tok2vec: Model[InT, OutT], factor: float) -> Model[InT, OutT]:
    """The rows of `tok2vec`, whose gradient is multiplied on its way back.

    spaCy adds a component's gradient up over all that it predicts: `ner` and `parser` have some for every token, a text
    classifier has one for a text. On an encoder of all three the classifiers are not heard until the others have learnt.

    tok2vec: `spacy-distil.DistilBertListener.v1`, or another that gives a row for each token.
    factor: 1 changes nothing, 0 leaves the encoder to the other components.
    """
    return Model("scaled_gradient", forward, init=init, layers=[tok2vec], dims={"nO": None}, attrs={"factor": factor})


def init(model: Model[InT, OutT], X: InT | None = None, Y: OutT | None = None) -> None:
    tok2vec = model.layers[0]
    tok2vec.initialize(X=X)
    model.set_dim("nO", tok2vec.get_dim("nO"))


def forward(model: Model[InT, OutT], docs: InT, is_train: bool) -> tuple[OutT, Callable[[OutT], InT]]:
    rows, backprop_rows = model.layers[0](docs, is_train)
    factor = model.attrs["factor"]

    def backprop(d_rows: OutT) -> InT:
        return backprop_rows([factor * part for part in d_rows])

    return rows, backprop
