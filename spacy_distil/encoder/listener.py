"""`spacy-distil.DistilBertListener.v1`: the encoder's rows, in a component further down the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from hashlib import blake2b
from typing import Any

import numpy as np
from spacy.pipeline.tok2vec import Tok2VecListener
from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d

from spacy_distil.encoder.model import ROWS
from spacy_distil.errors import EncoderError

CLS_EXTENSION = "cls_vector"

InT = list[Doc]
OutT = list[Floats2d]


def DistilBertListener(upstream: str = "*", width: int | None = None, grad_factor: float = 1.0) -> Model[InT, OutT]:
    """The rows of the component `distilbert` further up the pipeline: a list of Docs to a list of (tokens, width) arrays.

    upstream: name of that component, or `*` for any.
    width: its width. None takes it from the encoder.
    grad_factor: how much the component has to say in what the encoder learns. spaCy adds a component's gradient up over all
        that it predicts: `ner` and `parser` have some for every token, a text classifier has one for a text, and beside them
        it is hardly heard. 0 leaves the encoder to the other components, at no cost.
    """
    return EncoderListener(upstream, width, grad_factor)


class EncoderListener(Tok2VecListener):
    """A listener that raises an EncoderError where spaCy's own gives zeros: when the encoder did not run on a Doc.

    releases: whether it takes the rows off the Docs once it has read them, as the last listener under `keep = "nothing"`.
    """

    name = "distilbert-listener"

    def __init__(self, upstream_name: str, width: int | None, grad_factor: float) -> None:
        attrs = {ROWS: "tokens", "grad_factor": grad_factor}
        Model.__init__(self, name=self.name, forward=forward, init=init, dims={"nO": width}, attrs=attrs)
        self.upstream_name = upstream_name
        self.releases = False
        self._batch_id: int | None = None
        self._outputs = None
        self._backprop: Callable[[OutT], InT] | None = None  # type: ignore[assignment]
        self._sample: InT = []

    @classmethod
    def get_batch_id(cls, inputs: Iterable[Doc]) -> int:
        """A hash of the Docs' words and their order."""
        digest = blake2b(digest_size=8)
        for doc in inputs:
            words = np.array([token.orth for token in doc], dtype=np.uint64)
            digest.update(len(words).to_bytes(8, "little") + words.tobytes())
        return int.from_bytes(digest.digest(), "little")

    def receive(self, batch_id: int, outputs: OutT, backprop: Callable[[OutT], InT]) -> None:
        self._sample = []
        super().receive(batch_id, outputs, backprop)


def init(model: EncoderListener, X: InT | None = None, Y: OutT | None = None) -> None:
    """Initialisation passes Docs that no component has seen, to infer shapes: for these, and no others, zeros will do."""
    if model.has_dim("nO") is None:
        raise EncoderError(
            f"The listener to {model.upstream_name!r} can't infer its width: no component 'distilbert' of that name stands "
            "before it in the pipeline and is initialised. Add one, or give the listener its `width`."
        )
    model._sample = list(X or [])


def forward(model: EncoderListener, docs: InT, is_train: bool) -> tuple[OutT, Callable[[OutT], InT]]:
    if is_train and model._batch_id is not None:
        model.verify_inputs(docs)
        return model._outputs, partial(_backprop, model)  # type: ignore[return-value]
    outputs = [_read(model, doc) for doc in docs]
    if model.releases and not is_train:
        for doc in docs:
            release(doc)
    return outputs, _no_backprop


def _backprop(model: EncoderListener, d_rows: OutT) -> InT:
    assert model._backprop is not None
    factor = model.attrs["grad_factor"]
    return model._backprop(d_rows if factor == 1.0 else [factor * part for part in d_rows])


def _read(model: EncoderListener, doc: Doc) -> Floats2d:
    width = model.get_dim("nO")
    wants_cls = model.attrs[ROWS] == "cls"
    rows: Any = doc._.get(CLS_EXTENSION) if wants_cls else doc.tensor
    if rows is not None and (rows.size or not len(doc)):
        rows = rows.reshape(-1, rows.shape[-1]) if rows.size else model.ops.alloc2f(0, width)
        if rows.shape[1] not in (width, 0):
            raise EncoderError(
                f"A listener of width {width} met a Doc whose vectors are {rows.shape[1]} wide: they come from another "
                "component. Let the listener name its component by `upstream`, and remove what else sets `doc.tensor`."
            )
        return model.ops.asarray2f(rows)
    if any(doc is sample for sample in model._sample):
        return model.ops.alloc2f(1 if wants_cls else len(doc), width)
    upstream = "distilbert" if model.upstream_name == "*" else model.upstream_name
    raise EncoderError(
        f"A component listens to the encoder {upstream!r}, which has not run on this Doc ({doc[:6].text!r} …). Enable "
        f"{upstream!r} together with the component, for instance spacy.load(…, enable=[{upstream!r}, …]). In training, a "
        f"frozen {upstream!r} also has to stand in `annotating_components`."
    )


def release(doc: Doc) -> None:
    """Take the encoder's rows off a Doc."""
    doc.tensor = np.zeros((0,), dtype="float32")
    doc._.set(CLS_EXTENSION, None)


def _no_backprop(d_rows: OutT) -> InT:
    return []
