"""The torch half of the decoder: device, precision, training step, bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from thinc.api import Optimizer
from thinc.util import get_torch_default_device
from torch import Tensor

from spacy_distil.encoder import optimizer as fused_optimizer
from spacy_distil.encoder.loss_scale import LossScale
from spacy_distil.encoder.packed import Packed
from spacy_distil.encoder.precision import Precision, resolve_precision
from spacy_distil.encoder.saved import damaged, read_saved
from spacy_distil.encoder.storage import Storage, pack, unpack
from spacy_distil.encoder.tokenizer import PieceTokenizer
from spacy_distil.encoder.torch_shim import TorchShim
from spacy_distil.errors import EncoderError
from spacy_distil.pipeline.generation.config import DecoderConfig
from spacy_distil.pipeline.generation.inference import DecoderPlan
from spacy_distil.pipeline.generation.module import Decoder
from spacy_distil.pipeline.generation.vocabulary import Kind

FORMAT, ROUNDED_FORMAT = "seq2seq-1", "seq2seq-2"
ROUNDED_NEEDS = "0.3.0"
FILLED = 1 << 30  # no budget: an update's pieces are decoded together


@dataclass(frozen=True)
class DecoderOptions:
    """What a decoder starts from and how it runs: the arguments of `spacy-distil.Seq2Seq.v1`."""

    n_layers: int
    width: int | None
    vocabulary: Kind
    vocabulary_size: int
    max_length: int
    dropout: float
    decoder: str | None
    decoder_layers: tuple[int, ...] | None
    learn_rate_factor: float
    precision: Precision


@dataclass(frozen=True)
class Texts:
    """Texts as the decoder reads them.

    inputs: the pieces of each, the one that starts it first.
    memory: (source pieces, memory width), the hidden states of their sources, one after the other.
    memory_lengths: source pieces of each.
    words: (vocabulary, width), the encoder's word vectors where the decoder shares them.
    """

    inputs: Sequence[Sequence[int]]
    memory: Tensor
    memory_lengths: tuple[int, ...]
    words: Tensor | None


class DecoderShim(TorchShim):
    """Holds the decoder and its vocabulary once they are there: from `initialize`, or from bytes."""

    _model: Decoder | None
    tokenizer: PieceTokenizer | None

    def __init__(self, options: DecoderOptions) -> None:
        super().__init__(model=None)
        self.options = options
        self.tokenizer = None
        self._plan: DecoderPlan | None = None
        self._words_state: tuple[int, int] | None = None  # of the shared word vectors that are in the plan
        self.loss_scale = LossScale()
        self.storage: Storage = "float32"

    # What it holds

    @property
    def decoder(self) -> Decoder:
        if self._model is None:
            raise EncoderError(
                "The decoder has no weights yet. Call `nlp.initialize()` with examples, or load a trained pipeline with "
                "`spacy.load`."
            )
        return self._model

    @property
    def vocabulary(self) -> PieceTokenizer:
        assert self.decoder is not None  # an error where it has no weights yet
        assert self.tokenizer is not None
        return self.tokenizer

    @property
    def longest(self) -> int:
        """The most pieces that it writes, the end included: as many as it has positions."""
        return self.decoder.config.max_positions

    @property
    def device(self) -> torch.device:
        return self.decoder.embeddings.position_embeddings.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return resolve_precision(self.options.precision, self.device)

    def adopt(self, decoder: Decoder, tokenizer: PieceTokenizer, storage: Storage = "float32") -> None:
        """storage: what the weights are exact in, as the file from which they come holds them."""
        self.storage = storage
        self._model = decoder.to(get_torch_default_device()).requires_grad_(True).eval()
        self.tokenizer = tokenizer
        self._plan = None

    # Prediction

    def plan(self, words: Tensor | None) -> DecoderPlan:
        """The decoder as it is now, laid out for prediction.

        words: the encoder's word vectors where the two share them.
        """
        state = None if words is None else (words.data_ptr(), words._version)
        if self._plan is None or self._plan.dtype != self.dtype or state != self._words_state:
            self._plan, self._words_state = DecoderPlan(self.decoder, self.dtype, words), state
        return self._plan

    @torch.no_grad()
    def predict(self, texts: Texts) -> Tensor:
        """(pieces, vocabulary), the logits of the whole texts at once, as in training."""
        return self._forward(texts, texts.memory)

    def _forward(self, texts: Texts, memory: Tensor) -> Tensor:
        packed = Packed.from_lists(texts.inputs).filled(FILLED).to(self.device)
        return self.decoder(packed, memory, texts.memory_lengths, self.dtype, texts.words)

    # Training

    def begin_update(self, texts: Texts, *, dropout: bool = True) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Logits, (pieces, vocabulary), and a callback from their gradient to the parameters' and to that of the memory."""
        self._plan = None
        memory = texts.memory.detach().clone().requires_grad_(True)
        self.decoder.train(dropout)
        try:
            logits = self._forward(texts, memory)
        finally:
            self.decoder.eval()

        def backprop(d_logits: Tensor) -> Tensor:
            if self.dtype != torch.float16:
                torch.autograd.backward([logits], [d_logits])
                assert memory.grad is not None
                return memory.grad
            torch.autograd.backward([logits], self.loss_scale.scale([d_logits]))
            assert memory.grad is not None
            return memory.grad / self.loss_scale.factor

        return logits.detach(), backprop

    def finish_update(self, optimizer: Optimizer) -> None:
        if self._model is None:
            return
        parameters = list(self.decoder.named_parameters())
        if self.dtype == torch.float16 and not self.loss_scale.unscale(p.grad for _, p in parameters):
            return
        rate = optimizer.learn_rate
        optimizer.learn_rate = rate * self.options.learn_rate_factor
        try:
            fused_optimizer.step(optimizer, self.id, parameters)
        finally:
            optimizer.learn_rate = rate
        self.storage, self._plan = "float32", None

    @torch.no_grad()
    def round_to_bfloat16(self) -> None:
        """Round the weights to what half a file holds, as they will be saved until they are trained on."""
        for parameter in self.decoder.parameters():
            parameter.copy_(parameter.bfloat16())
        self.storage, self._plan = "bfloat16", None

    # Copies, devices, bytes

    def _serialize(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        decoder = self.decoder
        weights = {name: value.detach().cpu().contiguous() for name, value in decoder.state_dict().items()}
        about = {"format": FORMAT, "config": decoder.config.to_dict(), "tokenizer": self.vocabulary.to_dict()}
        if self.storage != "float32":
            about |= {"format": ROUNDED_FORMAT, "needs": ROUNDED_NEEDS}
        return pack(weights, self.storage, []), about

    def from_disk(self, path: str | Path) -> DecoderShim:
        self.adopt(*read_decoder(path))
        return self


def read_decoder(path: str | Path) -> tuple[Decoder, PieceTokenizer, Storage]:
    """Read the weights of a decoder, with its shape and its vocabulary in their metadata, and what they are exact in.

    RAISES: CheckpointError for a file that is missing, damaged, or of another kind.
    """
    weights, about = read_saved(path, (FORMAT, ROUNDED_FORMAT))
    try:
        with torch.device("meta"):
            decoder = Decoder(DecoderConfig.from_dict(about["config"]))
        decoder.load_state_dict(unpack(weights), assign=True)
        storage: Storage = "bfloat16" if about["format"] == ROUNDED_FORMAT else "float32"
        return decoder, PieceTokenizer.from_dict(about["tokenizer"]), storage
    except Exception as error:  # tokenizers raises bare Exception
        raise damaged(path, error) from None
