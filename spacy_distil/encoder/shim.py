"""The torch half of the encoder: device, precision, batches, training step, bytes."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from spacy.tokens import Doc
from thinc.api import Optimizer
from thinc.util import get_torch_default_device
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recompute_in_backward

import spacy_distil.encoder.fork  # noqa: F401  makes forks safe
from spacy_distil.encoder import optimizer as fused_optimizer
from spacy_distil.encoder import sparse
from spacy_distil.encoder.calibration import Calibration, InputRecorder
from spacy_distil.encoder.checkpoint import (
    FORMAT,
    NEEDS,
    ROUNDED_FORMAT,
    SPARSE_FORMAT,
    Checkpoint,
    load_checkpoint,
    read_component,
)
from spacy_distil.encoder.inference import InferencePlan
from spacy_distil.encoder.int8 import int8_products
from spacy_distil.encoder.loss_scale import LossScale
from spacy_distil.encoder.module import DistilBertEncoder
from spacy_distil.encoder.packed import Packed
from spacy_distil.encoder.pieces import (
    N_SPECIAL,
    Batch,
    Ints1d,
    Pieces,
    Windows,
    batch_windows,
    cut_windows,
    docs_to_pieces,
    first_pieces,
)
from spacy_distil.encoder.precision import Precision, resolve_precision
from spacy_distil.encoder.sequences import Sequences
from spacy_distil.encoder.storage import Storage, pack, unpack
from spacy_distil.encoder.tokenizer import PieceTokenizer
from spacy_distil.encoder.torch_shim import TorchShim
from spacy_distil.encoder.unknown import UnknownWatch
from spacy_distil.encoder.zeros import Zeros, prunable
from spacy_distil.errors import EncoderError

# An update keeps the activations of this many batches; those of further batches are computed again in the backward
# pass, so that the memory of an update has a bound, however long its Docs.
KEPT_BATCHES = 4
LAST = -1  # number of the last hidden state
DEFAULT_WINDOW = 512  # stands for all positions of an encoder that has fewer
Pooling = Literal["mean", "first"]


@dataclass(frozen=True)
class EncoderOptions:
    """How an encoder runs, as opposed to what it has learnt. Not saved with the weights: the pipeline's config has them.

    The fields are the arguments of `spacy-distil.DistilBert.v1`.
    """

    name: str
    revision: str | None
    sha256: str | None
    layers: tuple[int, ...] | None
    precision: Precision
    freeze: str | int
    gradient_checkpointing: bool
    max_batch_pieces: int
    window: int
    overlap: int
    pooling: Pooling
    keep_zeros: bool


@dataclass(frozen=True)
class Encoded:
    """A batch of Docs, encoded.

    lengths: the number of tokens of each Doc.
    tokens: (tokens, width) in float32, all Docs' tokens. A token without a piece of its own has a row of zeros.
    cls: (docs, width) in float32, the last hidden state of `[CLS]`; the mean over windows where a Doc has several.
    layers: (hidden states, tokens, width), the embeddings and each layer's output, or those that were asked for.
    """

    lengths: list[int]
    tokens: Tensor
    cls: Tensor
    layers: Tensor | None = None


class Backprop(Protocol):
    """From gradients to the parameters': (tokens, width), (docs, width), (hidden states asked for, tokens, width)."""

    def __call__(self, d_tokens: Tensor | None, d_cls: Tensor | None, d_layers: Tensor | None = None) -> None: ...


class DistilBertShim(TorchShim):
    """Holds the encoder once it has weights: from its checkpoint by `initialize`, or from bytes."""

    _model: DistilBertEncoder | None

    def __init__(self, options: EncoderOptions) -> None:
        super().__init__(model=None)
        self.options = options
        self._tokenizer: PieceTokenizer | None = None
        self._plan: InferencePlan | None = None
        self.loss_scale = LossScale()
        self.zeros = Zeros()
        self.storage: Storage = "float32"
        self.calibration: Calibration | None = None
        self._unknown = UnknownWatch()

    # What it holds

    @property
    def encoder(self) -> DistilBertEncoder:
        if self._model is None:
            raise self._no_weights()
        return self._model

    @property
    def tokenizer(self) -> PieceTokenizer:
        if self._tokenizer is None:
            raise self._no_weights()
        return self._tokenizer

    def _no_weights(self) -> EncoderError:
        return EncoderError(
            "The DistilBERT encoder has no weights yet. Call `nlp.initialize()`, which loads "
            f"{self.options.name!r}, or load a trained pipeline with `spacy.load`."
        )

    @property
    def device(self) -> torch.device:
        return self.encoder.embeddings.word_embeddings.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return resolve_precision(self.options.precision, self.device)

    @property
    def window(self) -> int:
        """The most pieces that see each other, `[CLS]` and `[SEP]` included: the options', or the encoder's own limit."""
        return min(self.options.window, self.encoder.config.max_positions)

    def initialize(self) -> None:
        """Load the checkpoint that the options name, unless the encoder has weights already."""
        if self._model is None:
            options = self.options
            resolve_precision(options.precision, get_torch_default_device())  # an error before long work
            checkpoint = load_checkpoint(
                options.name, revision=options.revision, layers=options.layers, sha256=options.sha256
            )
            if complaint := self._window_complaint(checkpoint):
                raise EncoderError(complaint)
            self.adopt(checkpoint)

    def _window_complaint(self, checkpoint: Checkpoint) -> str | None:
        n_positions = checkpoint.config.max_positions
        if self.options.window <= n_positions or self.options.window == DEFAULT_WINDOW:
            return None
        return (
            f"window = {self.options.window} is more than the encoder has positions, {n_positions}: set it to at most "
            f"{n_positions}. Longer Docs are cut into windows of at most so many pieces."
        )

    def adopt(self, checkpoint: Checkpoint) -> None:
        """Become the encoder of a checkpoint, of whatever shape. An optimiser that knows the old one can't go on with it."""
        n_frozen = _count_frozen(self.options.freeze, len(checkpoint.config.layers))
        window = min(self.options.window, checkpoint.config.max_positions)
        if self.options.overlap >= window - N_SPECIAL:
            raise EncoderError(
                f"overlap = {self.options.overlap} is too large for an encoder of {checkpoint.config.max_positions} positions: "
                f"it has to be smaller than {window - N_SPECIAL}."
            )
        self._tokenizer, self._unknown = checkpoint.tokenizer, UnknownWatch()
        self._model = checkpoint.build().to(get_torch_default_device())
        for part in self._model.parts[:n_frozen]:
            part.requires_grad_(False)
        self.zeros = Zeros()
        if checkpoint.sparse and self.options.keep_zeros:
            self.zeros = Zeros.of(self._model, embeddings=checkpoint.sparse_embeddings)
        self.storage, self.calibration = checkpoint.storage, checkpoint.calibration
        self._plan = None

    # Prediction

    def predict(self, docs: Sequence[Doc], *, layers: bool = False) -> Encoded:
        """Encode without gradient. layers: also return every layer's output."""
        pieces, windows = self._read(docs)
        encoded = self._empty(docs, pieces, n_hidden=len(self.encoder.config.layers) + 1 if layers else 0)
        plan = self._get_plan()
        window_weights = _window_weights(windows)
        with torch.inference_mode():
            for batch in self._batches(pieces, windows):
                packed = batch.packed.to(self.device)
                hidden = plan.all(packed) if layers else [plan.last(packed)]
                self._place(encoded, batch, windows, window_weights, *_pool(hidden[-1], batch))
                if encoded.layers is not None:
                    for row, states in zip(encoded.layers, hidden, strict=True):
                        row.index_add_(0, batch.tokens.to(row.device), _pool(states, batch)[0])
        return encoded

    def predict_sequences(self, sequences: Sequences) -> Tensor:
        """The last hidden state of each piece, without gradient: (pieces, width) in float32."""
        return self.predict_states(sequences, [LAST])[0]

    def predict_states(self, sequences: Sequences, layers: Sequence[int]) -> Tensor:
        """Hidden states of each piece, without gradient: (hidden states asked for, pieces, width) in float32.

        layers: their numbers, 0 for the embeddings, i for the output of layer i, `LAST` for that of the last.
        """
        sequences.check(self.encoder.config.max_positions)
        states = self._empty_states(sequences, layers)
        plan = self._get_plan()
        with torch.inference_mode():
            for packed, rows in sequences.batches(self.options.max_batch_pieces):
                here, packed = rows.to(self.device), packed.to(self.device)
                hidden = [plan.last(packed)] if set(layers) == {LAST} else plan.all(packed)
                for row, layer in zip(states, layers, strict=True):
                    row[here] = hidden[layer][: len(rows)].float()
        return states

    def _empty_states(self, sequences: Sequences, layers: Sequence[int]) -> Tensor:
        return torch.empty(len(layers), len(sequences.ids), self.encoder.config.width, device=self.device)

    def _get_plan(self) -> InferencePlan:
        if self._plan is None or self._plan.dtype != self.dtype:
            int8 = self.options.precision == "int8"
            self._plan = InferencePlan(
                self.encoder, self.dtype, int8_products(self.calibration, self.dtype) if int8 else None
            )
        return self._plan

    # Rounding

    @contextlib.contextmanager
    def calibrate(self) -> Iterator[None]:
        """Predict in float32 within, and note how the inputs of products are rounded in int8 from then on."""
        recorder, options = InputRecorder(), self.options
        self.options = replace(options, precision="float32")
        self._plan = InferencePlan(self.encoder, self.dtype, recorder)
        try:
            yield
        finally:
            self.options, self._plan = options, None
        self.calibration = recorder.calibration

    @torch.no_grad()
    def round_to(self, storage: Storage) -> float:
        """Round the weights to what a file of this storage holds, as it will be saved until it is trained on. Returns the most
        that a weight has changed by. Calibrate before: the powers of two come into what is rounded."""
        weights, calibration = self.encoder.state_dict(), self.calibration
        columns = weights if calibration is None else calibration.multiplied(weights)
        rounded = unpack(pack(columns, storage, prunable(self.encoder, embeddings=True)))
        if calibration is not None:
            rounded = calibration.divided(rounded)
        error = max(float((rounded[name] - value).abs().max()) for name, value in weights.items())
        self.overwrite(rounded)
        self.storage, self.calibration = storage, calibration
        return error

    def _learns(self) -> None:
        """Called where weights change: they are saved as they are from now on, and their ranges are calibrated no more."""
        self.storage, self.calibration, self._plan = "float32", None, None

    # Training

    def begin_update(
        self, docs: Sequence[Doc], *, dropout: bool = True, layers: Sequence[int] = ()
    ) -> tuple[Encoded, Backprop]:
        """Encode, and return a callback from the gradients of `tokens`, `cls` and `layers` to the parameters'.

        dropout: apply the checkpoint's own dropout.
        layers: the hidden states to give as `layers`, in this order: 0 for the embeddings, i for the output of layer i.
        """
        encoder = self.encoder
        if self._is_frozen:
            return self._encode_frozen(docs, layers), lambda d_tokens, d_cls, d_layers=None: None
        self._check_learns()
        self._plan = None
        pieces, windows = self._read(docs)
        encoded = self._empty(docs, pieces, n_hidden=len(layers))
        window_weights = _window_weights(windows)
        tape: list[tuple[Batch, Tensor, Tensor, list[Tensor]]] = []
        with _training(encoder, dropout):
            for batch in self._batches(pieces, windows):
                tokens, cls, *hidden = self._remember(len(tape), self._forward, batch, layers)
                self._place(encoded, batch, windows, window_weights, tokens.detach(), cls.detach())
                for i, rows in enumerate(hidden):
                    assert encoded.layers is not None
                    encoded.layers[i].index_add_(0, batch.tokens.to(self.device), rows.detach())
                tape.append((batch, tokens, cls, hidden))

        def backprop(d_tokens: Tensor | None, d_cls: Tensor | None, d_layers: Tensor | None = None) -> None:
            with _training(encoder, dropout):
                while tape:
                    batch, tokens, cls, hidden = tape.pop()
                    outputs, gradients = [], []
                    here = batch.tokens.to(self.device)
                    if d_tokens is not None:
                        outputs.append(tokens)
                        gradients.append(d_tokens[here])
                    if d_cls is not None:
                        docs_here = torch.from_numpy(windows.docs)[batch.windows].to(self.device)
                        outputs.append(cls)
                        gradients.append(d_cls[docs_here] * window_weights[batch.windows].to(self.device)[:, None])
                    if d_layers is not None:
                        learning = [i for i, rows in enumerate(hidden) if rows.requires_grad]  # frozen layers have none
                        outputs += [hidden[i] for i in learning]
                        gradients += [d_layers[i][here] for i in learning]
                    self._backward(outputs, gradients)

        return encoded, backprop

    def begin_update_sequences(
        self, sequences: Sequences, *, dropout: bool = True
    ) -> tuple[Tensor, Callable[[Tensor], None]]:
        """The last hidden state of each piece, (pieces, width) in float32, and a callback from its gradient, of that shape, to
        the parameters'.

        dropout: apply the checkpoint's own dropout.
        """
        states, backprop = self.begin_update_states(sequences, [LAST], dropout=dropout)
        return states[0], lambda d_hidden: backprop(d_hidden[None])

    def begin_update_states(
        self, sequences: Sequences, layers: Sequence[int], *, dropout: bool = True
    ) -> tuple[Tensor, Callable[[Tensor], None]]:
        """Hidden states of each piece, (hidden states asked for, pieces, width) in float32, and a callback from their gradient,
        of that shape, to the parameters'.

        layers: as `predict_states` takes them.
        dropout: apply the checkpoint's own dropout.
        """
        encoder = self.encoder
        if self._is_frozen:
            return self.predict_states(sequences, layers), lambda d_states: None
        self._check_learns()
        self._plan = None
        sequences.check(encoder.config.max_positions)
        states = self._empty_states(sequences, layers)
        tape: list[tuple[Tensor, list[Tensor]]] = []
        with _training(encoder, dropout):
            for packed, rows in sequences.batches(self.options.max_batch_pieces):
                here = rows.to(self.device)
                hidden = self._remember(len(tape), self._states, packed, len(rows), layers)
                for row, part in zip(states, hidden, strict=True):
                    row[here] = part.detach()
                tape.append((here, hidden))

        def backprop(d_states: Tensor) -> None:
            with _training(encoder, dropout):
                while tape:
                    here, hidden = tape.pop()
                    learning = [i for i, part in enumerate(hidden) if part.requires_grad]  # frozen layers have none
                    self._backward([hidden[i] for i in learning], [d_states[i][here] for i in learning])

        return states, backprop

    def _check_learns(self) -> None:
        if self.options.precision == "int8":
            raise EncoderError(
                'An encoder with precision = "int8" does not learn. Train the pipeline from which it was made. Or train its '
                'rounded weights on: set precision = "auto" in its block of the config, or in spacy.load(path, '
                'config={"components": {"distilbert": {"model": {"precision": "auto"}}}}), and quantise what comes out.'
            )

    @property
    def _is_frozen(self) -> bool:
        return not any(parameter.requires_grad for part in self.encoder.parts for parameter in part.parameters())

    def _remember(self, n_kept: int, function: Callable[..., Any], *args: Any) -> Any:
        """Run a part of an update whose activations are kept, or computed again in the backward pass.

        n_kept: the parts of the update whose activations are kept already.
        """
        if self.options.gradient_checkpointing or n_kept >= KEPT_BATCHES:
            return recompute_in_backward(function, *args, use_reentrant=False)
        return function(*args)

    def _backward(self, outputs: list[Tensor], gradients: list[Tensor]) -> None:
        if self.dtype == torch.float16:
            gradients = self.loss_scale.scale(gradients)
        torch.autograd.backward(outputs, gradients)

    def add_gradient(self, parameter: Tensor, gradient: Tensor) -> None:
        """Add to a parameter's gradient what a head sends that shares the parameter, as the word embeddings."""
        if self.dtype == torch.float16:
            (gradient,) = self.loss_scale.scale([gradient])
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    def _states(self, packed: Packed, n_pieces: int, layers: Sequence[int]) -> list[Tensor]:
        hidden = self.encoder(packed.to(self.device), self.dtype)
        return [hidden[i][:n_pieces].float() for i in layers]

    def _encode_frozen(self, docs: Sequence[Doc], layers: Sequence[int]) -> Encoded:
        encoded = self.predict(docs, layers=bool(layers))
        return encoded if encoded.layers is None else replace(encoded, layers=encoded.layers[list(layers)])

    def _forward(self, batch: Batch, layers: Sequence[int]) -> tuple[Tensor, ...]:
        hidden = self.encoder(batch.packed.to(self.device), self.dtype)
        return *_pool(hidden[-1], batch), *(_pool(hidden[i], batch)[0] for i in layers)

    def finish_update(self, optimizer: Optimizer) -> None:
        if self._model is None:
            return
        parameters = dict(self.encoder.named_parameters())
        if self.dtype == torch.float16 and not self.loss_scale.unscale(p.grad for p in parameters.values()):
            return
        self.zeros.before_step(parameters, optimizer, self.id)
        fused_optimizer.step(optimizer, self.id, parameters.items())
        self.zeros.after_step(parameters, optimizer, self.id)
        self._learns()

    @torch.no_grad()
    def overwrite(self, weights: dict[str, Tensor]) -> None:
        """Put other values into parameters, by name and of the same shape. Pruned weights stay zero."""
        parameters = dict(self.encoder.named_parameters())
        for name, value in weights.items():
            parameters[name].copy_(value)
        self.zeros.apply(parameters)
        self._learns()

    def keep_zero(self, zeros: Zeros) -> None:
        """Set weights to zero, for good."""
        self.zeros = zeros
        zeros.apply(dict(self.encoder.named_parameters()))
        storage = self.storage
        self._learns()
        if storage == "bfloat16":  # as exact in it as before; scales of int8 rows are others now
            self.storage = storage

    # Batches

    def _read(self, docs: Sequence[Doc]) -> tuple[Pieces, Windows]:
        pieces = docs_to_pieces(docs, self.tokenizer)
        self.look_for_unknown(pieces.ids, lambda: [doc.text for doc in docs])
        if self.options.pooling == "first":
            pieces = first_pieces(pieces)
        return pieces, cut_windows(pieces, window=self.window, overlap=self.options.overlap)

    def look_for_unknown(self, ids: Ints1d, texts: Callable[[], Sequence[str]]) -> None:
        """Warn, once for an encoder, where too much is unknown: see `UnknownWatch.look`."""
        who = f"The encoder {self.options.name!r}" if self.options.name else "The encoder"
        self._unknown.look(who, ids, texts, self.tokenizer)

    def _batches(self, pieces: Pieces, windows: Windows) -> Iterator[Batch]:
        return batch_windows(
            pieces,
            windows,
            max_batch_pieces=self.options.max_batch_pieces,
            cls_id=self.tokenizer.cls_id,
            sep_id=self.tokenizer.sep_id,
        )

    def _empty(self, docs: Sequence[Doc], pieces: Pieces, n_hidden: int) -> Encoded:
        n_tokens, width = len(pieces.token_starts), self.encoder.config.width
        return Encoded(
            lengths=[len(doc) for doc in docs],
            tokens=torch.zeros(n_tokens, width, device=self.device),
            cls=torch.zeros(len(docs), width, device=self.device),
            layers=torch.zeros(n_hidden, n_tokens, width, device=self.device) if n_hidden else None,
        )

    def _place(
        self, encoded: Encoded, batch: Batch, windows: Windows, window_weights: Tensor, tokens: Tensor, cls: Tensor
    ) -> None:
        # A token longer than an overlap may have pieces in several windows: rows are added, not set.
        encoded.tokens.index_add_(0, batch.tokens.to(self.device), tokens)
        docs_here = torch.from_numpy(windows.docs)[batch.windows].to(self.device)
        encoded.cls.index_add_(0, docs_here, cls * window_weights[batch.windows].to(self.device)[:, None])

    # Copies, devices, bytes

    def to_device(self, device_type: str, device_id: int) -> None:
        super().to_device(device_type, device_id)
        if self._model is not None:
            self.zeros.to(self.device)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "zeros": self.zeros.fixed()}  # a pruning that goes on goes on here alone

    def _serialize(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        encoder = self.encoder
        weights = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
        about: dict[str, Any] = {
            "format": FORMAT,
            "config": encoder.config.to_dict(),
            "tokenizer": self.tokenizer.to_dict(),
        }
        if self.storage != "float32" or self.calibration is not None:
            about |= {"format": ROUNDED_FORMAT, "storage": self.storage, "sparse": bool(self.zeros)}
            if self.calibration is not None:
                weights = self.calibration.multiplied(weights)
            weights = pack(weights, self.storage, prunable(encoder, embeddings=True))
        elif self.zeros:
            about["format"] = SPARSE_FORMAT
        if about["format"] in NEEDS:
            about["needs"] = NEEDS[about["format"]]
        if self.zeros:
            about["sparse_embeddings"] = self.zeros.of_embeddings
            weights = sparse.compress(weights, self.zeros.pruned)
        if self.calibration is not None:
            weights |= self.calibration.to_tensors()
        return weights, about

    def from_disk(self, path: str | Path) -> DistilBertShim:
        checkpoint = read_component(path)
        if complaint := self._window_complaint(checkpoint):
            warnings.warn(complaint, stacklevel=2)  # what was saved before that was an error still loads
        self.adopt(checkpoint)
        return self


def to_checkpoint(shim: DistilBertShim) -> Checkpoint:
    """The encoder as it is now; the tensors are its own."""
    encoder = shim.encoder
    return Checkpoint(
        encoder.config,
        encoder.state_dict(),
        shim.tokenizer,
        bool(shim.zeros),
        shim.zeros.of_embeddings,
        shim.storage,
        shim.calibration,
    )


def _pool(hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """(pieces, width) to the batch's token vectors, (tokens here, width), and `[CLS]`, (windows, width), in float32."""
    states, device = hidden.float(), hidden.device
    rows, offsets, weights = (t.to(device) for t in (batch.rows, batch.offsets, batch.weights))
    tokens = F.embedding_bag(rows, states, offsets, mode="sum", per_sample_weights=weights)
    return tokens, states[batch.cls_rows.to(device)]


def _window_weights(windows: Windows) -> Tensor:
    """(windows,) one over the number of windows of a window's Doc."""
    docs = torch.from_numpy(windows.docs)
    return 1.0 / torch.bincount(docs)[docs].float()


@contextlib.contextmanager
def _training(encoder: DistilBertEncoder, dropout: bool) -> Iterator[None]:
    """Training mode for the parts that learn. Frozen parts run as in prediction, without dropout."""
    for part in encoder.parts:
        part.train(dropout and any(parameter.requires_grad for parameter in part.parameters()))
    try:
        yield
    finally:
        encoder.eval()


def _count_frozen(freeze: str | int, n_layers: int) -> int:
    """The number of leading parts, embeddings first, that `freeze` names."""
    if freeze == "none":
        return 0
    if freeze == "embeddings":
        return 1
    if freeze == "all":
        return 1 + n_layers
    if isinstance(freeze, int) and 0 <= freeze <= n_layers:
        return 1 + freeze
    raise EncoderError(
        f"freeze = {freeze!r} is not possible for an encoder of {n_layers} layers. It takes none, embeddings, all, or the "
        f"number of first layers to freeze together with the embeddings, 0 to {n_layers}."
    )
