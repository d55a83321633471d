"""The component `distilbert`: one encoder for all components that listen to it.

Sets `doc.tensor` to (tokens, width) in float32, and so `Token.vector`, `Span.vector`, `Doc.vector` and `.similarity()` where
the vocabulary has no vectors; `doc._.cls_vector` to (width,), the encoder's `[CLS]`; with `keep = "layers"` also
`doc._.hidden_states` to (1 + layers, tokens, width), the embeddings and each layer's output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from spacy import util
from spacy.language import Language
from spacy.pipeline.tok2vec import Tok2Vec
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from spacy.vocab import Vocab
from thinc.api import Config, Model, Optimizer, set_dropout_rate
from thinc.types import Floats2d
from thinc.util import torch2xp

from spacy_distil.encoder.listener import CLS_EXTENSION, EncoderListener
from spacy_distil.encoder.model import ROWS, get_shim, has_dropout, join_rows, read_encoder, split_rows, write_encoder
from spacy_distil.encoder.shim import Backprop, DistilBertShim, Encoded
from spacy_distil.errors import EncoderError
from spacy_distil.pipeline import transformer_listener

LAYERS_EXTENSION = "hidden_states"
Keep = Literal["tokens", "layers", "nothing"]

default_model_config = """
[model]
@architectures = "spacy-distil.DistilBert.v1"
name = "distilbert-base-uncased"
revision = null
sha256 = null
layers = null
precision = "auto"
freeze = "none"
gradient_checkpointing = false
max_batch_pieces = 2048
window = 512
overlap = 32
"""
DEFAULT_DISTILBERT_MODEL = Config().from_str(default_model_config)["model"]


@Language.factory(
    "distilbert",
    assigns=["doc.tensor", f"doc._.{CLS_EXTENSION}", f"doc._.{LAYERS_EXTENSION}"],
    default_config={"model": DEFAULT_DISTILBERT_MODEL, "keep": "tokens"},
)
def make_distilbert(nlp: Language, name: str, model: Model[list[Doc], list[Floats2d]], keep: Keep) -> DistilBert:
    """Make the component.

    model: an encoder of the architecture `spacy-distil.DistilBert.v1`.
    keep: what stays on a Doc: `tokens`, its token vectors and `[CLS]`; `layers`, those and all hidden states; `nothing`, for
        which all listeners have to be `spacy-distil.DistilBertListener.v1`: the last in the pipeline takes the vectors away.
    """
    return DistilBert(nlp.vocab, model, name, keep=keep)


class DistilBert(Tok2Vec):
    """spaCy's `Tok2Vec` pipe with a DistilBERT in it."""

    def __init__(self, vocab: Vocab, model: Model, name: str = "distilbert", *, keep: Keep = "tokens") -> None:
        super().__init__(vocab, model, name)
        get_shim(model)
        model.attrs["replace_listener"] = transformer_listener.replace_listener
        model.attrs["replace_listener_cfg"] = transformer_listener.replace_listener_cfg
        self.keep = keep
        self._pending: PendingUpdate | None = None
        for extension in (CLS_EXTENSION, LAYERS_EXTENSION):
            if not Doc.has_extension(extension):
                Doc.set_extension(extension, default=None)

    @property
    def shim(self) -> DistilBertShim:
        return get_shim(self.model)

    # Listeners

    def find_listeners(self, component: Any) -> None:
        """Find spaCy's listeners, ours among them, and spacy-transformers', in a component."""
        super().find_listeners(component)
        if isinstance(getattr(component, "model", None), Model):
            for node in component.model.walk():
                if transformer_listener.is_one(node) and node.upstream_name in ("*", self.name):
                    self.add_listener(node, component.name)

    def add_listener(self, listener: Any, component_name: str) -> None:
        if self.keep == "nothing" and not isinstance(listener, EncoderListener):
            raise EncoderError(
                f'keep = "nothing" needs spacy-distil.DistilBertListener.v1 in every component that listens, and '
                f"{component_name!r} has {listener.name!r}. Change its listener, or keep the tokens."
            )
        if transformer_listener.is_one(listener):
            transformer_listener.prepare()
        super().add_listener(listener, component_name)
        self._fit_width(listener, component_name)
        for other in self.listeners:
            if isinstance(other, EncoderListener):
                other.releases = self.keep == "nothing" and other is self.listeners[-1]

    def _fit_width(self, listener: Any, component_name: str) -> None:
        if not self.model.has_dim("nO"):
            return
        width = self.model.get_dim("nO")
        if listener.has_dim("nO") is None:
            listener.set_dim("nO", width)
        elif listener.get_dim("nO") != width:
            raise EncoderError(
                f"The listener in {component_name!r} expects vectors {listener.get_dim('nO')} wide, and {self.name!r} gives "
                f"{width}. Set the listener's width to {width}, or use spacy-distil.DistilBertListener.v1, which infers it."
            )

    # Prediction

    def predict(self, docs: Iterable[Doc]) -> Encoded:  # type: ignore[override]
        """Encode a batch of Docs, without changing them."""
        return self.shim.predict(list(docs), layers=self.keep == "layers")

    def set_annotations(self, docs: Sequence[Doc], encoded: Encoded) -> None:
        """Set the Docs' vectors. Each Doc owns its rows: it keeps nothing of its batch alive."""
        if self.keep == "nothing" and not self.listeners:
            return
        feeds_transformer_listeners = any(map(transformer_listener.is_one, self.listeners))
        for doc, tokens, cls in zip(docs, split_rows(encoded, "tokens"), split_rows(encoded, "cls"), strict=True):
            # A Doc alone owns its batch: a copy would only cost its memory once more.
            doc.tensor = tokens if len(docs) == 1 else tokens.copy()  # type: ignore[assignment]
            doc._.set(CLS_EXTENSION, cls[0].copy())
            if feeds_transformer_listeners:
                transformer_listener.annotate(doc)
        if encoded.layers is not None:
            for doc, states in zip(docs, torch.split(encoded.layers, encoded.lengths, dim=1), strict=True):
                doc._.set(LAYERS_EXTENSION, torch2xp(states).copy())

    # Training

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Encode a batch and hand vectors and a callback for their gradients to the listeners.

        The last listener's gradient starts the backward pass; where it gives none, because its component is left out or
        has nothing to learn from the batch, `finish_update` does.

        losses: gets the sum of the squared gradients, as spaCy's Tok2Vec reports it.
        """
        losses = {} if losses is None else losses
        self.begin_update(examples, drop=drop, losses=losses)
        return losses

    def begin_update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        losses: dict[str, float] | None = None,
        layers: Sequence[int] = (),
    ) -> PendingUpdate | None:
        """As `update`, for a caller who has a gradient of hidden states to add.

        layers: hidden states to give, 0 for the embeddings, i for the output of layer i.
        RETURNS: the batch, which waits for gradients; None where nobody listens and no layers are asked for.
        """
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, "DistilBert.update")
        if self._pending is not None:
            self._pending.finish()
        self._pending = None
        if not self.listeners and not layers:
            return None
        docs = [example.predicted for example in examples]
        set_dropout_rate(self.model, drop)
        encoded, backprop = self.shim.begin_update(docs, dropout=has_dropout(self.model), layers=layers)
        self._pending = pending = PendingUpdate(self.model, encoded, backprop, losses, self.name)
        for listener in self.listeners:
            is_last = listener is self.listeners[-1]
            if transformer_listener.is_one(listener):
                transformer_listener.send(listener, docs, encoded, partial(pending.receive, "tokens", is_last))
            else:
                rows = listener.attrs.get(ROWS, "tokens")
                receive = partial(pending.receive, rows, is_last)
                listener.receive(listener.get_batch_id(docs), split_rows(encoded, rows), receive)
        return pending

    def finish_update(self, sgd: Optimizer) -> None:
        """Step the optimiser, once the batch's gradient is there.

        `nlp.update(…, sgd=optimizer)` calls this before the listeners' gradients have arrived: the step is then
        taken when they have.
        """
        if self._pending is not None and not self._pending.is_finished:
            self._pending.sgd = sgd
            if self._pending.has_gradient:
                self._pending.finish()
        else:
            self.model.finish_update(sgd)

    def initialize(self, get_examples: Callable[[], Iterable[Example]], *, nlp: Language | None = None) -> None:
        """Load the checkpoint, unless the encoder has weights already, and tell the listeners its width."""
        self.model.initialize()
        if nlp is not None and self in (components := [component for _, component in nlp.pipeline]):
            for component in components[components.index(self) + 1 :]:
                self.find_listeners(component)

    # On disk

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Write the component: `model.safetensors` with weights, config and tokenizer."""
        writers: dict[str, Callable[[Path], Any]] = {
            "vocab": lambda p: self.vocab.to_disk(p, exclude=exclude),
            "model": lambda p: write_encoder(self.model, p.parent),
        }
        util.to_disk(path, writers, exclude)

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> DistilBert:
        """Read the component. Raises CheckpointError for a file that is missing or damaged."""
        readers: dict[str, Callable[[Path], Any]] = {
            "vocab": lambda p: self.vocab.from_disk(p, exclude=exclude),
            "model": lambda p: read_encoder(self.model, p.parent),
        }
        util.from_disk(path, readers, exclude)
        return self


class PendingUpdate:
    """A batch between its forward and its backward pass: it gathers the listeners' gradients.

    encoded: the batch, until the backward pass has run.
    sgd: an optimiser that waits for the gradient.
    """

    def __init__(self, model: Model, encoded: Encoded, backprop: Backprop, losses: dict[str, float], name: str) -> None:
        self.model, self.losses, self.name = model, losses, name
        self.sgd: Optimizer | None = None
        self.is_finished = False
        self.encoded = encoded
        self._backprop = backprop
        self._gradients: dict[str, torch.Tensor] = {}

    @property
    def has_gradient(self) -> bool:
        return bool(self._gradients)

    def receive(self, rows: str, is_last: bool, gradient: list[Floats2d]) -> list[Doc]:
        """Add a listener's gradient with respect to its rows, an array for each Doc. The last listener's ends the wait."""
        self._check_waiting()
        self._add(rows, join_rows(gradient, self.encoded.tokens.device))
        if is_last:
            self.finish()
        return []

    def receive_layers(self, gradient: torch.Tensor) -> None:
        """Add a gradient with respect to `encoded.layers`, of its shape, before the last listener sends its own."""
        self._check_waiting()
        self._add("layers", gradient)

    def _check_waiting(self) -> None:
        if self.is_finished:
            raise EncoderError(
                f"A component sent a gradient to {self.name!r} after the last listener had sent its own. Combine the gradients "
                "of a component before its backward pass."
            )

    def _add(self, rows: str, gradient: torch.Tensor) -> None:
        loss = float(gradient.square().sum())
        if loss:  # a gradient of zeros costs no backward pass
            self.losses[self.name] += loss
            self._gradients[rows] = self._gradients[rows] + gradient if rows in self._gradients else gradient

    def finish(self) -> None:
        """Run the backward pass, and the optimiser if one waits; nothing where no listener has sent a gradient."""
        if self.is_finished:
            return
        self.is_finished = True
        if self.has_gradient:
            self._backprop(self._gradients.get("tokens"), self._gradients.get("cls"), self._gradients.get("layers"))
        # The listeners keep this object until their next batch: it must hold no graph then, or `nlp` could not be pickled.
        del self._backprop, self.encoded, self._gradients
        if self.sgd is not None:
            self.model.finish_update(self.sgd)
