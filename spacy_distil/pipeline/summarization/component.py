"""The component `distilbert_summarizer`: the sentences of a Doc that say what it says.

Sets `sent._.salience` for each sentence, the probability that it belongs to a summary, and `doc._.summary`, a list of Spans in
the order of the Doc. Both are None where the component has not run. What is stored are numbers in `doc.user_data`, which every
way to save a Doc keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from itertools import islice
from typing import Any, get_args

import numpy
from spacy.language import Language
from spacy.pipeline import TrainablePipe
from spacy.tokens import Doc, Span
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.vocab import Vocab
from thinc.api import Config, Model, Optimizer, Ragged, set_dropout_rate, to_numpy
from thinc.types import Floats2d

from spacy_distil.errors import ComponentError
from spacy_distil.pipeline.references import check_references, register_references
from spacy_distil.pipeline.summarization.labels import Labels, has_labels, make_labels
from spacy_distil.pipeline.summarization.rouge import score_summaries
from spacy_distil.pipeline.summarization.selection import Redundancy, Selection
from spacy_distil.pipeline.summarization.sentences import (
    Spans,
    find_sentences,
    find_sentences_to_learn,
)

SALIENCE_EXTENSION, SUMMARY_EXTENSION = "salience", "summary"
OFFSETS_EXTENSION = "summary_offsets"
"""The extension that holds the first character of each sentence of the summary, and the one behind its last."""

default_model_config = """
[model]
@architectures = "spacy-distil.SentenceSalience.v1"
hidden_width = 128
dropout = 0.2

[model.tok2vec]
@architectures = "spacy-distil.DistilBertListener.v1"
upstream = "*"
"""
DEFAULT_MODEL = Config().from_str(default_model_config)["model"]
DEFAULT_SELECTION = Selection()


@Language.factory(
    "distilbert_summarizer",
    assigns=[f"span._.{SALIENCE_EXTENSION}", f"doc._.{SUMMARY_EXTENSION}"],
    requires=["doc.tensor", "token.is_sent_start"],
    default_config={
        "model": DEFAULT_MODEL,
        "labels_from": "gains",
        **asdict(DEFAULT_SELECTION),
        "scorer": {"@scorers": "spacy-distil.summary_scorer.v1"},
    },
    default_score_weights={"rouge1_f": 1.0, "rouge2_f": 0.0, "rougeL_f": 0.0},
)
def make_summarizer(
    nlp: Language,
    name: str,
    model: Model[tuple[list[Doc], Ragged], Floats2d],
    labels_from: Labels,
    max_sentences: int | None,
    max_words: int | None,
    redundancy: Redundancy,
    diversity: float,
    scorer: Callable | None,
) -> Summarizer:
    """Make the component.

    model: a logit for each sentence, as `spacy-distil.SentenceSalience.v1` gives.
    labels_from: what to learn from. `gains`: of the reference summaries, how near each sentence alone comes to one, in
        proportion to the nearest; `greedy`: of the reference summaries, the sentences that come nearest together, by greedy
        ROUGE; `salient`: the sentences that the corpus names. A Doc that has not what is asked for gives the other.
    max_sentences, max_words: the most that a summary may have, null for no limit of this kind. Punctuation is no word. A
        sentence that does not fit is passed over.
    redundancy: `trigrams` passes over a sentence that has three words in a row in common with one that is chosen, `mmr` prefers
        sentences that have few words in common with those, `none` takes the best.
    diversity: weight of that in `mmr`, from 0 to 1.
    scorer: the scoring method.
    """
    selection = Selection(max_sentences, max_words, redundancy, diversity)
    return Summarizer(nlp.vocab, model, name, labels_from=labels_from, selection=selection, scorer=scorer)


class Summarizer(TrainablePipe):
    """Scores sentences and chooses some of them.

    selection: how it chooses; may be changed at any time.
    """

    def __init__(
        self,
        vocab: Vocab,
        model: Model,
        name: str = "distilbert_summarizer",
        *,
        labels_from: Labels = "gains",
        selection: Selection = DEFAULT_SELECTION,
        scorer: Callable | None = score_summaries,
    ) -> None:
        super().__init__(vocab, model, name)
        if labels_from not in get_args(Labels):
            raise ComponentError(
                f"labels_from = {labels_from!r} is not known. Known are {', '.join(get_args(Labels))}."
            )
        self.labels_from = labels_from
        self.selection = selection
        self.scorer = scorer
        register_references()
        register_summaries()

    # Prediction

    def predict(self, docs: Iterable[Doc]) -> list[tuple[Spans, Any]]:
        """For each Doc its sentences, (sentences, 2), and the salience of each, (sentences,), numpy's both."""
        docs = list(docs)
        sentences = [find_sentences(doc, self.name) for doc in docs]
        saliences = to_numpy(self.model.ops.sigmoid(self.predict_logits(docs, sentences)))[:, 0]
        ends = numpy.cumsum([len(spans) for spans in sentences], dtype="int64")
        return list(zip(sentences, numpy.split(saliences, ends), strict=False))  # behind the last end there is nothing

    def predict_logits(self, docs: Sequence[Doc], sentences: Sequence[Spans]) -> Floats2d:
        """(sentences of all Docs, 1)"""
        if not any(map(len, sentences)):
            return self.model.ops.alloc2f(0, 1)
        return self.model.predict((list(docs), self.to_ragged(sentences)))

    def to_ragged(self, sentences: Sequence[Spans]) -> Ragged:
        """The sentences of several Docs, as the model takes them."""
        ops = self.model.ops
        return Ragged(ops.asarray2i(numpy.concatenate(sentences)), ops.asarray1i([len(spans) for spans in sentences]))

    def set_annotations(self, docs: Sequence[Doc], scored: Sequence[tuple[Spans, Any]]) -> None:
        for doc, (sentences, saliences) in zip(docs, scored, strict=True):
            for sentence in _sentences(doc):  # those of white space have no salience of their own
                sentence._.set(SALIENCE_EXTENSION, 0.0)
            for (start, end), salience in zip(sentences, saliences, strict=True):
                doc[start:end]._.set(SALIENCE_EXTENSION, float(salience))
            doc._.set(OFFSETS_EXTENSION, [[span.start_char, span.end_char] for span in self.summarize(doc)])

    def summarize(self, doc: Doc, **settings: Any) -> list[Span]:
        """Choose anew among the sentences of a Doc that has been scored. The Doc stays as it is.

        settings: `max_sentences`, `max_words`, `redundancy`, `diversity`, where they are to differ from the component's.
        RETURNS: the sentences in the order of the Doc.
        RAISES: ComponentError where the component has not run on the Doc.
        """
        selection = replace(self.selection, **settings)
        sentences = _sentences(doc)
        saliences = [sentence._.get(SALIENCE_EXTENSION) for sentence in sentences]
        if None in saliences:
            raise ComponentError(
                f"Nothing has scored the sentences of this Doc: {doc[:6].text!r} … Run the component '{self.name}' on it first."
            )
        words = [[token.lower_ for token in sent if not (token.is_punct or token.is_space)] for sent in sentences]
        return [sentences[i] for i in selection.choose(saliences, words)]

    # Training

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Learn from the examples that have summaries, or say which sentences are salient.

        losses: gets the cross-entropy, added up over sentences.
        """
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, "Summarizer.update")
        if not any(has_labels(example.reference) for example in examples):
            return losses
        sentences = self.find_sentences(examples)
        if not any(map(len, sentences)):
            return losses
        set_dropout_rate(self.model, drop)
        docs = [example.predicted for example in examples]
        logits, backprop = self.model.begin_update((docs, self.to_ragged(sentences)))
        loss, gradient = self.get_loss(examples, logits, sentences)
        backprop(gradient)
        if sgd is not None:
            self.finish_update(sgd)
        losses[self.name] += loss
        return losses

    def find_sentences(self, examples: Sequence[Example]) -> list[Spans]:
        """The sentences to learn from: those of each predicted Doc, else of its reference, (sentences, 2)."""
        return [find_sentences_to_learn(example, self.name) for example in examples]

    def get_loss(
        self, examples: Sequence[Example], logits: Floats2d, sentences: Sequence[Spans]
    ) -> tuple[float, Floats2d]:
        """The cross-entropy, added up over the sentences of the examples that have labels, and its gradient.

        logits: (sentences of all examples, 1).
        sentences: of each example, (sentences, 2).
        RETURNS: the loss, and its gradient with respect to the logits, (sentences of all examples, 1).
        """
        labels = numpy.zeros((len(logits), 1), dtype="float32")
        known = numpy.zeros((len(logits), 1), dtype="float32")
        start = 0
        for example, spans in zip(examples, sentences, strict=True):
            end = start + len(spans)
            if has_labels(example.reference):
                labels[start:end, 0] = make_labels(example, spans, self.labels_from, self.selection.max_sentences)
                known[start:end] = 1.0
            start = end
        xp = self.model.ops.xp
        target, weight = self.model.ops.asarray2f(labels), self.model.ops.asarray2f(known)
        loss = weight * (xp.logaddexp(0, logits) - target * logits)
        return float(loss.sum()), weight * (self.model.ops.sigmoid(logits) - target)

    def initialize(self, get_examples: Callable[[], Iterable[Example]], *, nlp: Language | None = None) -> None:
        """Fit the model's shapes to its encoder.

        RAISES: ComponentError where no example has summaries or salient sentences, and no teacher knows any.
        """
        validate_get_examples(get_examples, "Summarizer.initialize")
        what = "a summary with a word in `doc._.summaries`, or `doc._.salient`"
        check_references(self.name, what, has_labels, get_examples, nlp)
        examples = list(islice(get_examples(), 10))
        docs = [example.predicted for example in examples]
        whole = [numpy.array([(0, len(doc))] if len(doc) else [], dtype="int32").reshape(-1, 2) for doc in docs]
        self.model.initialize(X=(docs, self.to_ragged(whole)))


def register_summaries() -> None:
    if not Span.has_extension(SALIENCE_EXTENSION):
        Span.set_extension(SALIENCE_EXTENSION, default=None)
    if not Doc.has_extension(OFFSETS_EXTENSION):
        Doc.set_extension(OFFSETS_EXTENSION, default=None)
    if not Doc.has_extension(SUMMARY_EXTENSION):
        Doc.set_extension(SUMMARY_EXTENSION, getter=find_summary)


def find_summary(doc: Doc) -> list[Span] | None:
    """The sentences of the summary, None where no summariser has run on the Doc."""
    offsets = doc._.get(OFFSETS_EXTENSION)
    if offsets is None:
        return None
    spans = (doc.char_span(start, end, alignment_mode="expand") for start, end in offsets)
    return [span for span in spans if span is not None]


def _sentences(doc: Doc) -> list[Span]:
    return list(doc.sents) if len(doc) else []
