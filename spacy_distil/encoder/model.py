"""`spacy-distil.DistilBert.v1`: the encoder as a thinc model from Docs to a row per token."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import cast, get_args

import torch
from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d
from thinc.util import torch2xp, xp2torch

from spacy_distil.encoder.checkpoint import WEIGHTS
from spacy_distil.encoder.precision import Precision, check_precision
from spacy_distil.encoder.shim import DEFAULT_WINDOW, DistilBertShim, Encoded, EncoderOptions, Pooling
from spacy_distil.errors import EncoderError

InT = list[Doc]
OutT = list[Floats2d]
ROWS = "rows"  # the attribute that says what the rows of an output are: "tokens", or "cls", one for the Doc


def DistilBert(
    name: str = "distilbert-base-uncased",
    revision: str | None = None,
    sha256: str | None = None,
    layers: list[int] | None = None,
    precision: Precision = "auto",
    freeze: str | int = "none",
    gradient_checkpointing: bool = False,
    max_batch_pieces: int = 2048,
    window: int = DEFAULT_WINDOW,
    overlap: int = 32,
    pooling: Pooling = "mean",
    keep_zeros: bool = True,
) -> Model[InT, OutT]:
    """A DistilBERT or BERT encoder: a list of Docs to a list of (tokens, width) arrays in float32.

    A token of several word pieces has their mean, or the first of them; a token without one of its own has zeros. The
    weights are read by `initialize`, or come with a saved pipeline, which needs neither `name` nor the network.

    name: where the weights come from: a hub id, a local folder, or `package:module/sub/folder`, a folder inside an
        installed Python package. The folder may be a checkpoint's, a saved pipeline's that has one `distilbert`, or that
        component's own.
    revision: branch, tag or commit of a hub id.
    sha256: digest that the file of weights must have.
    layers: the layers of the checkpoint to keep, counted from 0; `[0, 2, 4, 7, 9, 11]` of a 12-layer BERT is DistilBERT's own
        initialisation (Sanh et al. 2019). The result has neither token types nor pooler. None keeps the checkpoint as it is.
    precision: what the layers compute in. `float32` equals transformers to rounding. `bfloat16` keeps 8 bits of it; the
        parameters stay float32. `auto` is bfloat16 where processor or GPU has matrix units for it, else float32. `float16` is
        for GPUs.
    freeze: `none`, `embeddings`, `all`, or the number of first layers that do not learn, nor do the embeddings then.
        They cost neither backward pass nor optimiser step, and run without dropout.
    gradient_checkpointing: keep no activations for the backward pass, compute them again batch by batch (Chen et al. 2016):
        about a third more time, and the memory of a single batch. Without it this starts after the fourth batch of an update.
    max_batch_pieces: the most word pieces that are encoded at once; it bounds the memory, whatever the Docs.
    window: the most word pieces that see each other; a longer Doc is cut into windows. At most the checkpoint's own limit,
        for which the default stands where that is less than 512.
    overlap: the pieces that neighbouring windows share at least. A token is taken from the window in which it stands most
        centrally.
    pooling: what a token of several pieces gets: the `mean` of them, or the `first`, as transformers' token classification
        with aggregation_strategy = "first".
    keep_zeros: the zeros of a pruned encoder stay zero in training. Without it the encoder trains densely again, and is
        saved so.
    """
    check_precision(precision)
    if pooling not in get_args(Pooling):
        raise EncoderError(f"pooling = {pooling!r} is not known. Known are {', '.join(get_args(Pooling))}.")
    if not 0 <= overlap < window - 2:
        raise EncoderError(f"overlap = {overlap} has to be at least 0 and smaller than window - 2 = {window - 2}.")
    if max_batch_pieces < 1:
        raise EncoderError(f"max_batch_pieces = {max_batch_pieces} has to be at least 1.")
    options = EncoderOptions(
        name=name,
        revision=revision,
        sha256=sha256,
        layers=None if layers is None else tuple(layers),
        precision=precision,
        freeze=freeze,
        gradient_checkpointing=gradient_checkpointing,
        max_batch_pieces=max_batch_pieces,
        window=window,
        overlap=overlap,
        pooling=pooling,
        keep_zeros=keep_zeros,
    )
    return Model(
        "distilbert",
        forward,
        init=init,
        dims={"nO": None},
        attrs={ROWS: "tokens", "dropout_rate": 0.0},
        shims=[DistilBertShim(options)],
    )


def get_shim(model: Model) -> DistilBertShim:
    """The encoder of a `spacy-distil.DistilBert.v1` model. Raises EncoderError for another model."""
    shim = model.shims[0] if model.shims else None
    if not isinstance(shim, DistilBertShim):
        raise EncoderError(
            f"The component 'distilbert' needs a model of the architecture spacy-distil.DistilBert.v1, not {model.name!r}."
        )
    return shim


def init(model: Model[InT, OutT], X: InT | None = None, Y: OutT | None = None) -> None:
    shim = get_shim(model)
    shim.initialize()
    set_width(model)


def set_width(model: Model[InT, OutT]) -> None:
    """Let the model's `nO` say the encoder's width. Raises EncoderError where the model was made for another."""
    width = get_shim(model).encoder.config.width
    if model.has_dim("nO") and model.get_dim("nO") != width:
        raise EncoderError(f"The encoder is {width} wide, and the model around it expects {model.get_dim('nO')}.")
    model.set_dim("nO", width)


def write_encoder(model: Model[InT, OutT], folder: Path) -> None:
    """Write `model.safetensors` with weights, config and tokenizer, from which another encoder can start too."""
    get_shim(model).to_disk(folder / WEIGHTS)


def read_encoder(model: Model[InT, OutT], folder: Path) -> None:
    """Read it. Raises CheckpointError for a file that is missing or damaged, and EncoderError for another width than the
    model's."""
    get_shim(model).from_disk(folder / WEIGHTS)
    set_width(model)


def forward(model: Model[InT, OutT], docs: InT, is_train: bool) -> tuple[OutT, Callable[[OutT], InT]]:
    shim = get_shim(model)
    if not is_train:
        return split_rows(shim.predict(docs), model.attrs[ROWS]), _no_backprop
    encoded, backprop_encoder = shim.begin_update(docs, dropout=has_dropout(model))

    def backprop(d_rows: OutT) -> InT:
        gradient = join_rows(d_rows, shim.device)
        backprop_encoder(*((None, gradient) if model.attrs[ROWS] == "cls" else (gradient, None)))
        return []

    return split_rows(encoded, model.attrs[ROWS]), backprop


def has_dropout(model: Model) -> bool:
    """The checkpoint's own rates apply; spaCy's rate says whether, so that `drop=0.0` is exact."""
    return model.attrs["dropout_rate"] > 0.0


def split_rows(encoded: Encoded, rows: str) -> OutT:
    """An array for each Doc: its tokens, or its `[CLS]` as (1, width)."""
    matrix = cast(Floats2d, torch2xp(encoded.cls if rows == "cls" else encoded.tokens))
    lengths = [1] * len(encoded.lengths) if rows == "cls" else encoded.lengths
    return [matrix[end - length : end] for length, end in zip(lengths, accumulate(lengths), strict=True)]


def join_rows(rows: OutT, device: torch.device) -> torch.Tensor:
    return torch.cat([xp2torch(part, device=device) for part in rows])


def _no_backprop(d_rows: OutT) -> InT:
    return []
