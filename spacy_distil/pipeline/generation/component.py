"""The component `distilbert_seq2seq`: writes a text for each Doc, its translation or its summary.

Sets `doc._.translation`, or with `target = "summary"` `doc._.abstract`, a string; None where it has not run. A translation is
made sentence by sentence where the Doc has sentence boundaries, a summary from the whole Doc.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy
from spacy import util
from spacy.language import Language
from spacy.pipeline import TrainablePipe
from spacy.tokens import Doc
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.vocab import Vocab
from thinc.api import Config, Model, Optimizer, set_dropout_rate
from thinc.types import Floats2d
from thinc.util import torch2xp, xp2torch

from spacy_distil.encoder.model import read_encoder, write_encoder
from spacy_distil.encoder.pieces import N_SPECIAL
from spacy_distil.encoder.tokenizer import PieceTokenizer
from spacy_distil.encoder.unknown import Kind, UnknownWatch
from spacy_distil.errors import ComponentError
from spacy_distil.pipeline.generation import initialization
from spacy_distil.pipeline.generation.loss import smoothed_cross_entropy
from spacy_distil.pipeline.generation.model import get_decoder, get_encoder, initialize
from spacy_distil.pipeline.generation.parts import cut_sentences, cut_whole
from spacy_distil.pipeline.generation.scores import score_texts
from spacy_distil.pipeline.generation.search import Search, Stopping
from spacy_distil.pipeline.generation.sources import Pairs, Sources
from spacy_distil.pipeline.generation.vocabulary import decode, encode, size_of
from spacy_distil.pipeline.generation.writing import write
from spacy_distil.pipeline.references import check_references, read_texts, register_references

Target = Literal["translation", "summary"]
EXTENSIONS = {"translation": "translation", "summary": "abstract"}
REFERENCES = {"translation": "translations", "summary": "summaries"}
INITIAL_SAMPLE = 1000  # examples whose pieces are looked at before training

default_model_config = """
[model]
@architectures = "spacy-distil.Seq2Seq.v1"

[model.encoder]
@architectures = "spacy-distil.DistilBert.v1"
name = "distilbert-base-uncased"
"""
DEFAULT_MODEL = Config().from_str(default_model_config)["model"]


@Language.factory(
    "distilbert_seq2seq",
    assigns=[f"doc._.{extension}" for extension in EXTENSIONS.values()],
    default_config={
        "model": DEFAULT_MODEL,
        "target": "translation",
        "beams": 4,
        "length_penalty": 1.0,
        "no_repeat_ngrams": 0,
        "max_length": 256,
        "max_ratio": 2.0,
        "early_stopping": False,
        "label_smoothing": 0.1,
        "scorer": {"@scorers": "spacy-distil.generation_scorer.v1"},
    },
    default_score_weights={"bleu": 1.0, "chrf": 0.0, "rouge1_f": None, "rouge2_f": None, "rougeL_f": None},
)
def make_seq2seq(
    nlp: Language,
    name: str,
    model: Model[Pairs, Floats2d],
    target: Target,
    beams: int,
    length_penalty: float,
    no_repeat_ngrams: int,
    max_length: int,
    max_ratio: float | None,
    early_stopping: Stopping,
    label_smoothing: float,
    scorer: Callable | None,
) -> Seq2Seq:
    """Make the component.

    model: of the architecture `spacy-distil.Seq2Seq.v1`.
    target: `translation` learns from `doc._.translations`, is scored by BLEU and chrF, and sets `doc._.translation`; `summary`
        learns from `doc._.summaries`, is scored by ROUGE, and sets `doc._.abstract`. Give the scores of a summary their weight
        in `[training.score_weights]`.
    beams, length_penalty, max_length, max_ratio, early_stopping: see `search.Search`. 1 beam is a greedy search.
    no_repeat_ngrams: no sequence of so many pieces is written twice; 0 for no such rule.
    label_smoothing: the share of the truth that is spread evenly over all pieces, in training.
    scorer: the scoring method.
    """
    search = Search(beams, length_penalty, no_repeat_ngrams, max_length, max_ratio, early_stopping)
    return Seq2Seq(nlp.vocab, model, name, target=target, search=search, label_smoothing=label_smoothing, scorer=scorer)


class Seq2Seq(TrainablePipe):
    """The arguments are those of `make_seq2seq`.

    search: how texts are looked for; may be changed at any time.
    """

    def __init__(
        self,
        vocab: Vocab,
        model: Model[Pairs, Floats2d],
        name: str = "distilbert_seq2seq",
        *,
        target: Target = "translation",
        search: Search = Search(),  # noqa: B008  it can't be changed itself
        label_smoothing: float = 0.1,
        scorer: Callable | None = score_texts,
    ) -> None:
        super().__init__(vocab, model, name)
        get_decoder(model)
        if target not in EXTENSIONS:
            raise ComponentError(f"target = {target!r} is not known. Known are {', '.join(EXTENSIONS)}.")
        if not 0.0 <= label_smoothing < 1.0:
            raise ComponentError(f"label_smoothing = {label_smoothing} has to be at least 0 and less than 1.")
        self.target, self.search, self.label_smoothing, self.scorer = target, search, label_smoothing, scorer
        self._told: set[str] = set()
        self._unknown = UnknownWatch()
        register_generation()

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        register_generation()

    @property
    def source_tokenizer(self) -> PieceTokenizer:
        return get_encoder(self.model).tokenizer

    @property
    def vocabulary(self) -> PieceTokenizer:
        """What is written in."""
        return get_decoder(self.model).vocabulary

    @property
    def window(self) -> int:
        """The most source pieces that are encoded together, without `[CLS]` and `[SEP]`."""
        return get_encoder(self.model).window - N_SPECIAL

    # Prediction

    def predict(self, docs: Iterable[Doc]) -> list[str]:
        """A text for each Doc, empty for one without text."""
        docs = list(docs)
        if self.target == "summary":
            parts = cut_whole(docs, self.source_tokenizer, self.window)
        else:
            parts = cut_sentences(docs, self.source_tokenizer, self.window)
            self._tell_cuts(docs, [part for part in parts if part.n_parts > 1])
        self._look(
            "source", [doc.text for doc in docs], [ids for part in parts for ids in part.windows], self.source_tokenizer
        )
        written = decode(
            self.vocabulary,
            write(self.model, Sources.of([part.windows for part in parts], self.source_tokenizer), self.search),
        )
        texts = [""] * len(docs)
        for part, text in zip(parts, written, strict=True):
            texts[part.doc] += (part.gap if texts[part.doc] else "") + text
        return texts

    def set_annotations(self, docs: Sequence[Doc], texts: Sequence[str]) -> None:
        for doc, text in zip(docs, texts, strict=True):
            doc._.set(EXTENSIONS[self.target], text)

    # Training

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Learn to write the references. The loss is the mean over pieces, and so is its gradient: sums would be clipped."""
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, "Seq2Seq.update")
        pairs = self.make_pairs([example.predicted for example in examples], self.find_targets(examples))
        if not len(pairs):
            return losses
        set_dropout_rate(self.model, drop)
        logits, backprop = self.model.begin_update(pairs)
        loss, d_logits = self.get_loss(pairs, logits)
        backprop(d_logits)
        if sgd is not None:
            self.finish_update(sgd)
        losses[self.name] += loss
        return losses

    def get_loss(self, pairs: Pairs, logits: Floats2d) -> tuple[float, Floats2d]:  # type: ignore[override]
        """Cross-entropy with smoothed labels, the mean over pieces, and its gradient. The logits are overwritten."""
        tensor = xp2torch(logits)
        gold = pairs.outputs(self.vocabulary.sep_id).to(tensor.device)
        loss, d_logits = smoothed_cross_entropy(tensor, gold, self.label_smoothing)
        return loss / len(gold), torch2xp(d_logits.div_(len(gold)))  # type: ignore[return-value]

    def find_targets(self, examples: Sequence[Example]) -> list[list[list[int]]]:
        """For each example the pieces of each of its references that can be learnt: none that is empty, or too long."""
        texts = [self.find_references(example.reference) for example in examples]
        encoded = iter(encode(self.vocabulary, [text for row in texts for text in row]))
        targets = [[next(encoded) for _ in row] for row in texts]
        longest = get_decoder(self.model).longest
        n_long = sum(len(ids) >= longest for row in targets for ids in row)
        if n_long:
            self._tell(
                "long",
                f"learns nothing from {n_long} of {sum(map(len, targets))} references of a batch: they have {longest} pieces "
                "or more, and max_length of the model's architecture is the most that it writes, the end included.",
            )
        return [[ids for ids in row if len(ids) < longest] for row in targets]

    def find_references(self, doc: Doc) -> list[str]:
        """The references that have a text."""
        return read_texts(doc, REFERENCES[self.target])

    def make_pairs(self, docs: Sequence[Doc], targets: Sequence[Sequence[Sequence[int]]]) -> Pairs:
        """Each Doc with each of its targets. A Doc of white space has nothing to be read."""
        whole = {part.doc: part.windows for part in cut_whole(docs, self.source_tokenizer, self.window)}
        pairs = [(whole[i], ids) for i, row in enumerate(targets) if i in whole for ids in row]
        sources = Sources.of([windows for windows, _ in pairs], self.source_tokenizer)
        return Pairs(sources, tuple(tuple(ids) for _, ids in pairs))

    def initialize(self, get_examples: Callable[[], Iterable[Example]], *, nlp: Language | None = None) -> None:
        """Load the encoder's checkpoint, train the target vocabulary on all references, and make the decoder, unless they are
        there already.

        RAISES: ComponentError where there are no references; where a vocabulary has to be trained, even if there is a teacher.
        """
        validate_get_examples(get_examples, "Seq2Seq.initialize")
        what = f"a text in `doc._.{REFERENCES[self.target]}`"
        check_references(self.name, what, lambda doc: bool(self.find_references(doc)), get_examples, nlp)
        is_fresh = not get_decoder(self.model).has_weights
        initialize(self.model, lambda: self._all_references(get_examples))
        options = get_decoder(self.model).options
        if is_fresh and options.decoder is None and options.vocabulary != "source":
            self._check_vocabulary(options.vocabulary_size)
        examples = list(islice(get_examples(), INITIAL_SAMPLE))
        texts = [example.predicted.text for example in examples]
        self._look("source", texts, encode(self.source_tokenizer, texts), self.source_tokenizer)
        references = [text for example in examples for text in self.find_references(example.reference)]
        self._look("target", references, encode(self.vocabulary, references), self.vocabulary)

    def _all_references(self, get_examples: Callable[[], Iterable[Example]]) -> Iterable[str]:
        text = None
        for example in get_examples():
            for text in self.find_references(example.reference):
                yield text
        if text is None:
            raise ComponentError(
                f"The component '{self.name}' has nothing to learn to write: no example has a text in "
                f"`doc._.{REFERENCES[self.target]}`. Convert the corpus with `python -m spacy distil convert`, or start from "
                "another pipeline's decoder by `decoder` of its architecture."
            )

    def _check_vocabulary(self, wanted: int) -> None:
        size = size_of(self.vocabulary)
        if size < wanted:
            warnings.warn(
                f"The target vocabulary of '{self.name}' has {size} pieces, and vocabulary_size = {wanted}: the references "
                "that `initialize` sees have no more. Of a streamed corpus, max_epochs = -1, it sees 100 Docs.",
                stacklevel=3,
            )

    # Warnings, each once for a component

    def _tell(self, kind: str, message: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            warnings.warn(f"The component '{self.name}' {message}", stacklevel=3)

    def _look(
        self, kind: Kind, texts: Sequence[str], pieces: Iterable[Sequence[int]], tokenizer: PieceTokenizer
    ) -> None:
        ids = numpy.fromiter(chain.from_iterable(pieces), dtype=numpy.int64)
        self._unknown.look(f"The component '{self.name}'", ids, lambda: texts, tokenizer, kind)

    def _tell_cuts(self, docs: Sequence[Doc], parts: Sequence[Any]) -> None:
        for part in parts:
            if docs[part.doc].has_annotation("SENT_START"):
                self._tell(
                    "sentence",
                    f"translates a sentence in {part.n_parts} parts, cut between tokens, since it is longer than the encoder's "
                    f"window of {self.window} pieces. Others may follow. It begins {docs[part.doc].text[:40]!r} …",
                )
            else:
                self._tell(
                    "document",
                    f"translates a Doc in {part.n_parts} parts, cut between any tokens, since it has no sentence boundaries "
                    f"and is longer than the encoder's window of {self.window} pieces. Others may follow. Put a component that "
                    "sets them, such as `senter` or `sentencizer`, before it.",
                )

    # Scores

    def score(self, examples: Iterable[Example], **kwargs: Any) -> dict[str, Any]:
        if self.scorer is None:
            return {}
        return self.scorer(examples, target=self.target, **kwargs)

    # On disk

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Write the component: `model.safetensors`, the encoder, and `decoder.safetensors`, each with shape and vocabulary."""

        def write_model(model_path: Path) -> None:
            write_encoder(self.model.layers[0], model_path.parent)
            get_decoder(self.model).to_disk(model_path.with_name(initialization.WEIGHTS))

        writers: dict[str, Callable[[Path], Any]] = {
            "vocab": lambda p: self.vocab.to_disk(p, exclude=exclude),
            "model": write_model,
        }
        util.to_disk(path, writers, exclude)

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> Seq2Seq:
        """Read the component. Raises CheckpointError for a file that is missing or damaged."""

        def read_model(model_path: Path) -> None:
            read_encoder(self.model.layers[0], model_path.parent)
            get_decoder(self.model).from_disk(model_path.with_name(initialization.WEIGHTS))

        readers: dict[str, Callable[[Path], Any]] = {
            "vocab": lambda p: self.vocab.from_disk(p, exclude=exclude),
            "model": read_model,
        }
        util.from_disk(path, readers, exclude)
        return self


def register_generation() -> None:
    register_references()
    for extension in EXTENSIONS.values():
        if not Doc.has_extension(extension):
            Doc.set_extension(extension, default=None)
