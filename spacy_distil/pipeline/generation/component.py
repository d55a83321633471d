"""The component `distilbert_seq2seq`: writes a text for each Doc, its translation or its summary.

Sets `doc._.translation`, a string, or with `target = "summary"` `doc._.abstract`; None where it has not run. A translation is made
sentence by sentence where the Doc has sentence boundaries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import srsly
from spacy import util
from spacy.language import Language
from spacy.pipeline import TrainablePipe
from spacy.tokens import Doc
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.vocab import Vocab
from thinc.api import Config, Model, Optimizer, set_dropout_rate
from thinc.types import Floats2d
from thinc.util import torch2xp, xp2torch

from spacy_distil.encoder.checkpoint import WEIGHTS
from spacy_distil.encoder.pieces import N_SPECIAL
from spacy_distil.errors import ComponentError
from spacy_distil.pipeline.generation import initialization
from spacy_distil.pipeline.generation.loss import smoothed_cross_entropy
from spacy_distil.pipeline.generation.model import get_decoder, get_encoder, initialize, read, shared_words
from spacy_distil.pipeline.generation.parts import cut_sentences, to_sources
from spacy_distil.pipeline.generation.scores import score_translations
from spacy_distil.pipeline.generation.search import Rules, greedy
from spacy_distil.pipeline.generation.sources import Pairs, Sources
from spacy_distil.pipeline.generation.vocabulary import decode, silent_ids
from spacy_distil.pipeline.references import register_references

default_model_config = """
[model]
@architectures = "spacy-distil.Seq2Seq.v1"
n_layers = 3

[model.encoder]
@architectures = "spacy-distil.DistilBert.v1"
"""
DEFAULT_MODEL = Config().from_str(default_model_config)["model"]


@Language.factory(
    "distilbert_seq2seq",
    assigns=["doc._.translation"],
    default_config={
        "model": DEFAULT_MODEL,
        "label_smoothing": 0.1,
        "scorer": {"@scorers": "spacy-distil.translation_scorer.v1"},
    },
    default_score_weights={"bleu": 1.0, "chrf": 0.0},
)
def make_seq2seq(nlp: Language, name: str, model: Model[Pairs, Floats2d], label_smoothing: float, scorer: Callable | None):
    return Seq2Seq(nlp.vocab, model, name, label_smoothing=label_smoothing, scorer=scorer)


class Seq2Seq(TrainablePipe):
    def __init__(
        self, vocab: Vocab, model: Model, name: str = "distilbert_seq2seq", *, label_smoothing: float = 0.1,
        scorer: Callable | None = score_translations,
    ) -> None:
        super().__init__(vocab, model, name)
        get_decoder(model)
        self.label_smoothing = label_smoothing
        self.scorer = scorer
        register_references()
        for extension in ("translation", "abstract"):
            if not Doc.has_extension(extension):
                Doc.set_extension(extension, default=None)

    @property
    def window(self) -> int:
        shim = get_encoder(self.model)
        return min(shim.options.window, shim.encoder.config.max_positions) - N_SPECIAL

    # Prediction

    def predict(self, docs: Iterable[Doc]) -> list[str]:
        docs = list(docs)
        encoder, decoder = get_encoder(self.model), get_decoder(self.model)
        parts = cut_sentences(docs, encoder.tokenizer, self.window)
        texts = self.generate(to_sources([[part.ids] for part in parts], encoder.tokenizer))
        written = ["" for _ in docs]
        for part, text in zip(parts, texts, strict=True):
            written[part.doc] += (part.gap if written[part.doc] else "") + text
        return written

    def generate(self, sources: Sources) -> list[str]:
        decoder = get_decoder(self.model)
        tokenizer = decoder.vocabulary
        rules = Rules(tokenizer.cls_id, tokenizer.sep_id, tuple(silent_ids(tokenizer)))
        plan = decoder.plan(shared_words(self.model))
        order = sorted(range(len(sources)), key=lambda i: sources.lengths[i])
        written: list[list[int]] = [[] for _ in order]
        for first in range(0, len(order), 64):
            numbers = order[first : first + 64]
            batch = sources.choose(numbers)
            limits = [min(2 * n + 10, decoder.decoder.config.max_positions - 1) for n in batch.lengths]
            writer = plan.start(read(self.model, batch), batch.lengths, n_beams=1, limit=max(limits))
            for i, ids in zip(numbers, greedy(writer, limits, rules), strict=True):
                written[i] = ids
        return decode(tokenizer, written)

    def set_annotations(self, docs: Sequence[Doc], texts: Sequence[str]) -> None:
        for doc, text in zip(docs, texts, strict=True):
            doc._.set("translation", text)

    # Training

    def make_pairs(self, examples: Sequence[Example]) -> Pairs:
        encoder, decoder = get_encoder(self.model), get_decoder(self.model)
        texts = [(eg.predicted.text, ref) for eg in examples for ref in eg.reference._.translations or []]
        targets = [e.ids for e in decoder.vocabulary.encode([b for _, b in texts])]
        sources = [e.ids for e in encoder.tokenizer.encode([a for a, _ in texts])]
        keep = [i for i in range(len(texts)) if 0 < len(sources[i]) <= self.window and len(targets[i]) < decoder.decoder.config.max_positions]
        return Pairs(to_sources([[sources[i]] for i in keep], encoder.tokenizer), tuple(targets[i] for i in keep))

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, "Seq2Seq.update")
        pairs = self.make_pairs(examples)
        if not len(pairs):
            return losses
        set_dropout_rate(self.model, drop)
        logits, backprop = self.model.begin_update(pairs)
        loss, d_logits = self.get_pairs_loss(pairs, logits)
        backprop(d_logits)
        if sgd is not None:
            self.finish_update(sgd)
        losses[self.name] += loss
        return losses

    def get_pairs_loss(self, pairs: Pairs, logits: Floats2d) -> tuple[float, Floats2d]:
        tensor = xp2torch(logits)
        gold = pairs.outputs(get_decoder(self.model).vocabulary.sep_id).to(tensor.device)
        loss, d_logits = smoothed_cross_entropy(tensor, gold, self.label_smoothing)
        return loss / len(gold), torch2xp(d_logits.div_(len(gold)))

    def initialize(self, get_examples: Callable[[], Iterable[Example]], *, nlp: Language | None = None) -> None:
        validate_get_examples(get_examples, "Seq2Seq.initialize")
        initialize(self.model, lambda: (ref for eg in get_examples() for ref in eg.reference._.translations or []))

    # On disk

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        def write_model(model_path: Path) -> None:
            folder = model_path.with_name("encoder")
            folder.mkdir(exist_ok=True)
            get_encoder(self.model).to_disk(folder / WEIGHTS)
            get_decoder(self.model).to_disk(model_path.with_name(initialization.WEIGHTS))

        util.to_disk(path, {"vocab": lambda p: self.vocab.to_disk(p, exclude=exclude), "model": write_model}, exclude)

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> Seq2Seq:
        def read_model(model_path: Path) -> None:
            get_encoder(self.model).from_disk(model_path.with_name("encoder") / WEIGHTS)
            get_decoder(self.model).from_disk(model_path.with_name(initialization.WEIGHTS))

        util.from_disk(path, {"vocab": lambda p: self.vocab.from_disk(p, exclude=exclude), "model": read_model}, exclude)
        return self
