"""The component `distilbert_mlm`: the pieces that could stand behind each `[MASK]` in a text.

Sets `doc._.masks`, a list of `{"start": int, "end": int, "fillings": […]}`, characters and what `fill` gives; empty for a text
without a mask. It trains on any texts, without annotation, and its encoder can then be the start of another pipeline's.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from spacy import util
from spacy.language import Language
from spacy.pipeline import TrainablePipe
from spacy.tokens import Doc
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.vocab import Vocab
from thinc.api import Config, Model, Optimizer, set_dropout_rate
from thinc.types import Floats2d
from thinc.util import xp2torch

from spacy_distil.characters import mend
from spacy_distil.drafts import new_file
from spacy_distil.encoder.checkpoint import read_safetensors
from spacy_distil.encoder.model import get_shim, read_encoder, write_encoder
from spacy_distil.encoder.saved import write_tensors
from spacy_distil.encoder.shim import DistilBertShim
from spacy_distil.encoder.tokenizer import PieceTokenizer
from spacy_distil.errors import ComponentError
from spacy_distil.pipeline.masked_lm.masking import Ints1d, Ints2d, choose_masks, make_query, mask_id, show_masks
from spacy_distil.pipeline.masked_lm.model import PARAMETERS, cross_entropy

EXTENSION = "masks"
HEAD = "head.safetensors"
SCORED_AT_ONCE = 16  # texts
MASKS_AT_ONCE = 256  # each has a score for every piece of the vocabulary

default_model_config = """
[model]
@architectures = "spacy-distil.MaskedLM.v1"

[model.encoder]
@architectures = "spacy-distil.DistilBert.v1"
name = "distilbert-base-uncased"
"""
DEFAULT_MODEL = Config().from_str(default_model_config)["model"]


class Filling(TypedDict):
    """score: the piece's probability. token, token_str: its number and text, as in transformers' pipeline. sequence: the text
    with the piece in place of the mask."""

    score: float
    token: int
    token_str: str
    sequence: str


@Language.factory(
    "distilbert_mlm",
    assigns=[f"doc._.{EXTENSION}"],
    default_config={"model": DEFAULT_MODEL, "top_k": 5, "masked_fraction": 0.15},
    default_score_weights={"mlm_accuracy": 1.0, "mlm_perplexity": None},
)
def make_masked_lm(nlp: Language, name: str, model: Model, top_k: int, masked_fraction: float) -> "MaskedLanguageModel":
    """Make the component.

    model: `spacy-distil.MaskedLM.v1`.
    top_k: fillings that are kept of each mask.
    masked_fraction: of a text's pieces, masked in training and in scoring.
    """
    return MaskedLanguageModel(nlp.vocab, model, name, top_k=top_k, masked_fraction=masked_fraction)


class MaskedLanguageModel(TrainablePipe):
    """A masked language model (Devlin et al. 2019, section 3.1) with an encoder of its own."""

    def __init__(
        self,
        vocab: Vocab,
        model: Model,
        name: str = "distilbert_mlm",
        *,
        top_k: int = 5,
        masked_fraction: float = 0.15,
    ) -> None:
        if not 0 < masked_fraction < 1 or top_k < 1:
            raise ComponentError(
                f"masked_fraction = {masked_fraction} has to be between 0 and 1, and top_k = {top_k} at least 1."
            )
        self.vocab, self.model, self.name = vocab, model, name
        self.cfg: dict[str, Any] = {}
        self.top_k, self.masked_fraction = top_k, masked_fraction
        if not Doc.has_extension(EXTENSION):
            Doc.set_extension(EXTENSION, default=None)

    @property
    def shim(self) -> DistilBertShim:
        return get_shim(self.model.layers[0])

    @property
    def tokenizer(self) -> PieceTokenizer:
        return self.shim.tokenizer

    # Prediction

    def fill(self, texts: Sequence[str], top_k: int | None = None) -> list[list[list[Filling]]]:
        """The likeliest pieces behind the masks: for each text, for each of its masks, the best first.

        Scores are those of transformers' fill-mask pipeline. Texts may be longer than the encoder's window; a text without a
        mask gets an empty list.

        top_k: how many for each mask; None: the component's.
        RAISES: ComponentError for one text in place of several.
        """
        if isinstance(texts, str):
            raise ComponentError(f"{texts!r:.80} is one text, and several are filled at once: give a list of texts.")
        top_k = self.top_k if top_k is None else top_k
        return [[mask["fillings"] for mask in masks] for masks in self._fill(list(map(mend, texts)), top_k)]

    def predict(self, docs: Iterable[Doc]) -> list[list[dict[str, Any]]]:
        return self._fill([doc.text for doc in docs], self.top_k)

    def set_annotations(self, docs: Sequence[Doc], masks: Sequence[list[dict[str, Any]]]) -> None:
        for doc, of_doc in zip(docs, masks, strict=True):
            doc._.set(EXTENSION, of_doc)

    def _fill(self, texts: Sequence[str], top_k: int) -> list[list[dict[str, Any]]]:
        encodings = self.tokenizer.encode(texts)
        mask = mask_id(self.tokenizer)
        ids = [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]
        self.shim.look_for_unknown(np.concatenate([np.zeros(0, dtype=np.int64), *ids]), lambda: texts)
        found = [(i, int(at)) for i, row in enumerate(ids) for at in np.flatnonzero(row == mask)]
        filled: list[list[dict[str, Any]]] = [[] for _ in texts]
        for start in range(0, len(found), MASKS_AT_ONCE):
            here = found[start : start + MASKS_AT_ONCE]
            owners = sorted({i for i, _ in here})
            positions = [np.array([at for i, at in here if i == owner], dtype=np.int64) for owner in owners]
            scores = torch.softmax(xp2torch(self.predict_masks([ids[i] for i in owners], positions)), dim=1)
            best = torch.topk(scores, min(top_k, scores.shape[1]))
            for (i, at), values, tokens in zip(here, best.values.tolist(), best.indices.tolist(), strict=True):
                first, last = encodings[i].offsets[at]
                fillings = [
                    self._filling(texts[i], first, last, score, token)
                    for score, token in zip(values, tokens, strict=True)
                ]
                filled[i].append({"start": first, "end": last, "fillings": fillings})
        return filled

    def _filling(self, text: str, start: int, end: int, score: float, token: int) -> Filling:
        piece = self.tokenizer.tokenizer.decode([token], skip_special_tokens=False)
        before = text[:start].rstrip() if piece.startswith("##") else text[:start]
        sequence = f"{before}{piece.removeprefix('##')}{text[end:]}"
        return {"score": score, "token": token, "token_str": piece, "sequence": sequence}

    def predict_masks(self, ids: Sequence[Ints1d], positions: Sequence[Ints1d]) -> Floats2d:
        """Scores before the softmax, (masks, pieces of the vocabulary), of all texts' masks.

        ids: each text's pieces, as they are shown. positions: of those that are asked for.
        """
        return self.model.predict(self._query(ids, positions))

    def _query(self, ids: Sequence[Ints1d], positions: Sequence[Ints1d]) -> Any:
        shim = self.shim
        return make_query(ids, positions, shim.tokenizer, window=shim.window, overlap=shim.options.overlap)

    # Training

    def read(self, docs: Iterable[Doc]) -> list[Ints1d]:
        """Each Doc's pieces."""
        texts = [doc.text for doc in docs]
        ids = [np.array(encoding.ids, dtype=np.int64) for encoding in self.tokenizer.encode(texts)]
        self.shim.look_for_unknown(np.concatenate([np.zeros(0, dtype=np.int64), *ids]), lambda: texts)
        return ids

    def draw(self, ids: Sequence[Ints1d], random: torch.Generator | None = None) -> list[Ints2d]:
        """Masks for each text, see `choose_masks`."""
        vocab_size = self.shim.encoder.config.vocab_size
        return [choose_masks(row, self.tokenizer, vocab_size, self.masked_fraction, random) for row in ids]

    def begin_update(
        self, ids: Sequence[Ints1d], masks: Sequence[Ints2d]
    ) -> tuple[Floats2d, Ints1d, Callable[[Floats2d], Any]]:
        """Scores of the masks, (masks, pieces of the vocabulary), what stood there, (masks,), and the backward pass.

        ids: each text's pieces. masks: at least one in all.
        """
        shown = [show_masks(row, of_text) for row, of_text in zip(ids, masks, strict=True)]
        scores, backprop = self.model.begin_update(self._query(shown, [of_text[:, 0] for of_text in masks]))
        targets = np.concatenate([row[of_text[:, 0]] for row, of_text in zip(ids, masks, strict=True)])
        return scores, targets, backprop

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Mask the examples' texts anew and learn what stood there.

        losses: gets the cross-entropy, summed over masks.
        """
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, "MaskedLanguageModel.update")
        ids = self.read(example.predicted for example in examples)
        masks = self.draw(ids)
        if not any(len(of_text) for of_text in masks):
            return losses
        set_dropout_rate(self.model, drop)
        scores, targets, backprop = self.begin_update(ids, masks)
        loss, gradient = cross_entropy(scores, targets)
        backprop(gradient)
        if sgd is not None:
            self.finish_update(sgd)
        losses[self.name] += loss
        return losses

    def initialize(self, get_examples: Callable[[], Iterable[Example]], *, nlp: Language | None = None) -> None:
        """Load the encoder's checkpoint, unless there are weights already."""
        validate_get_examples(get_examples, "MaskedLanguageModel.initialize")
        self.model.initialize()
        mask_id(self.tokenizer)

    def score(self, examples: Iterable[Example], **kwargs: Any) -> dict[str, float]:
        """How well masked pieces are found again: `mlm_accuracy`, the share of those that are the likeliest, and
        `mlm_perplexity`. A text has the same masks each time."""
        loss, n_right, n_masks = 0.0, 0, 0
        for batch in util.minibatch(examples, SCORED_AT_ONCE):
            docs = [example.reference for example in batch]
            ids = self.read(docs)
            masks = [
                of_text
                for row, doc in zip(ids, docs, strict=True)
                for of_text in self.draw([row], _generator(doc.text))
            ]
            if not any(len(of_text) for of_text in masks):
                continue
            shown = [show_masks(row, of_text) for row, of_text in zip(ids, masks, strict=True)]
            scores = self.predict_masks(shown, [of_text[:, 0] for of_text in masks])
            targets = np.concatenate([row[of_text[:, 0]] for row, of_text in zip(ids, masks, strict=True)])
            loss += cross_entropy(scores, targets)[0]
            n_right += int((xp2torch(scores).argmax(dim=1).cpu().numpy() == targets).sum())
            n_masks += len(targets)
        if not n_masks:
            return {}
        return {"mlm_accuracy": n_right / n_masks, "mlm_perplexity": float(np.exp(loss / n_masks))}

    # On disk

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Write the component: `model.safetensors` with the encoder as `distilbert` writes it, so that another pipeline's can
        start from this folder, and `head.safetensors`."""
        writers: dict[str, Callable[[Path], Any]] = {
            "vocab": lambda p: self.vocab.to_disk(p, exclude=exclude),
            "model": self._write_model,
        }
        util.to_disk(path, writers, exclude)

    def _write_model(self, path: Path) -> None:
        write_encoder(self.model.layers[0], path.parent)
        weights = {name: xp2torch(self.model.get_param(name)).cpu().contiguous() for name in PARAMETERS}
        with new_file(path.with_name(HEAD)) as draft:
            write_tensors(weights, draft)

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> "MaskedLanguageModel":
        """Read the component. Raises CheckpointError for a file that is missing or damaged."""
        readers: dict[str, Callable[[Path], Any]] = {
            "vocab": lambda p: self.vocab.from_disk(p, exclude=exclude),
            "model": self._read_model,
        }
        util.from_disk(path, readers, exclude)
        return self

    def _read_model(self, path: Path) -> None:
        read_encoder(self.model.layers[0], path.parent)
        for name, value in read_safetensors(path.with_name(HEAD)).items():
            self.model.set_param(name, self.model.ops.asarray(value.numpy()))  # type: ignore[arg-type]


def _generator(text: str) -> torch.Generator:
    digest = hashlib.blake2b(text.encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))
