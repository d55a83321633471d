"""The component `distilbert_qa`: answers to questions about a Doc.

Sets `doc._.answers` in `nlp(…)` for Docs that come with `doc._.questions`. It gives Docs of its vocabulary the method
`doc._.ask`, which answers by a span of the Doc; `answer` does so for many Docs and questions at once. It learns from
`doc._.questions` of reference Docs, see `spacy_distil.pipeline.references`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from spacy import util
from spacy.language import Language
from spacy.pipeline import TrainablePipe
from spacy.tokens import Doc
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.vocab import Vocab
from thinc.api import Config, Model, Optimizer, set_dropout_rate, to_numpy
from thinc.types import Floats2d

from spacy_distil.characters import mend
from spacy_distil.encoder.model import get_shim, read_encoder, write_encoder
from spacy_distil.encoder.sequences import Sequences
from spacy_distil.encoder.shim import DistilBertShim
from spacy_distil.encoder.tokenizer import PieceTokenizer
from spacy_distil.encoder.unknown import UnknownWatch
from spacy_distil.errors import ComponentError
from spacy_distil.pipeline.mean_score import MeanScore
from spacy_distil.pipeline.question_answering.answers import (
    ANSWERS,
    ASK,
    Answer,
    is_answered,
    make_answers,
    read_questions,
    register,
    texts_in,
    texts_of,
)
from spacy_distil.pipeline.question_answering.gold import Question, cross_entropy, draw, has_answers
from spacy_distil.pipeline.question_answering.metrics import best, exact_match, f1
from spacy_distil.pipeline.question_answering.spans import find_spans
from spacy_distil.pipeline.question_answering.windows import Windows, make_windows
from spacy_distil.pipeline.references import as_list, check_references, register_references

INITIAL_SAMPLE = 100  # examples that are looked at before training
DEFAULT_MAX_LENGTH = 384  # stands for all positions of an encoder that has fewer

default_model_config = """
[model]
@architectures = "spacy-distil.QuestionAnswering.v1"

[model.encoder]
@architectures = "spacy-distil.DistilBert.v1"
name = "distilbert-base-uncased"
"""
DEFAULT_MODEL = Config().from_str(default_model_config)["model"]


@Language.factory(
    "distilbert_qa",
    assigns=[f"doc._.{ASK}", f"doc._.{ANSWERS}"],
    default_config={
        "model": DEFAULT_MODEL,
        "max_length": DEFAULT_MAX_LENGTH,
        "stride": 128,
        "max_answer_length": 30,
        "no_answer_threshold": None,
        "questions_per_doc": 0,
    },
    default_score_weights={"qa_f1": 0.5, "qa_exact_match": 0.5},
)
def make_question_answering(
    nlp: Language,
    name: str,
    model: Model[Sequences, Floats2d],
    max_length: int,
    stride: int,
    max_answer_length: int,
    no_answer_threshold: float | None,
    questions_per_doc: int,
) -> QuestionAnswering:
    """Make the component.

    model: of the architecture `spacy-distil.QuestionAnswering.v1`.
    max_length: the most word pieces of a window, question and passage together. No more than the encoder has positions, which
        is what the default means where they are fewer.
    stride: the pieces that neighbouring windows of a long passage share.
    max_answer_length: in word pieces.
    no_answer_threshold: a question has no answer where the logits of `[CLS]` exceed those of the best span by more than this,
        as in SQuAD 2.0; 0.0 for what is likelier. None: every question has an answer.
    questions_per_doc: the most questions of a Doc that an update learns from, drawn at random each time; 0 for all of them.
    """
    return QuestionAnswering(
        nlp.vocab,
        model,
        name,
        max_length=max_length,
        stride=stride,
        max_answer_length=max_answer_length,
        no_answer_threshold=no_answer_threshold,
        questions_per_doc=questions_per_doc,
    )


class QuestionAnswering(TrainablePipe):
    """The arguments are those of `make_question_answering`."""

    def __init__(
        self,
        vocab: Vocab,
        model: Model[Sequences, Floats2d],
        name: str = "distilbert_qa",
        *,
        max_length: int = DEFAULT_MAX_LENGTH,
        stride: int = 128,
        max_answer_length: int = 30,
        no_answer_threshold: float | None = None,
        questions_per_doc: int = 0,
    ) -> None:
        super().__init__(vocab, model, name)
        if model.name != "question_answering":
            raise ComponentError(
                f"The component '{name}' needs a model of the architecture spacy-distil.QuestionAnswering.v1, not "
                f"{model.name!r}."
            )
        if not 0 <= stride < max_length // 2:
            raise ComponentError(
                f"stride = {stride} has to be at least 0 and smaller than half of max_length = {max_length}."
            )
        if max_answer_length < 1:
            raise ComponentError(f"max_answer_length = {max_answer_length} has to be at least 1.")
        if questions_per_doc < 0:
            raise ComponentError(f"questions_per_doc = {questions_per_doc} has to be at least 0, which is all of them.")
        self.max_length = max_length
        self.stride = stride
        self.max_answer_length = max_answer_length
        self.no_answer_threshold = no_answer_threshold
        self.questions_per_doc = questions_per_doc
        self._unknown = UnknownWatch()
        # A component that comes from another pipeline keeps that one's vocabulary: the Docs that it meets say where it is.
        self.vocabs = [vocab]
        register_references()
        register(self)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        register_references()
        register(self)

    @property
    def shim(self) -> DistilBertShim:
        return get_shim(self.model.get_ref("encoder"))

    @property
    def tokenizer(self) -> PieceTokenizer:
        return self.shim.tokenizer

    @property
    def window_length(self) -> int:
        """`max_length`, or the encoder's own limit."""
        return min(self.max_length, self.tokenizer.max_length)

    def _length_complaint(self) -> str | None:
        limit = self.tokenizer.max_length
        if self.max_length <= limit or self.max_length == DEFAULT_MAX_LENGTH:
            return None
        return (
            f"max_length = {self.max_length} of the component '{self.name}' is more than its encoder has positions, {limit}: "
            f"set it to at most {limit}. Longer passages are read in windows of at most so many pieces."
        )

    # Prediction

    def answer(self, docs: Iterable[Doc], questions: Iterable[str | Iterable[str]], top_k: int = 1) -> list[Any]:
        """Answer questions about many Docs in one go.

        questions: for each Doc a question, or a list of questions.
        top_k: the most answers to a question.
        RETURNS: for each Doc the answers to its question, best first, or a list of these. A question that the Doc does not
            answer gets an answer without a span.
        RAISES: ComponentError for a question that is none, that is empty, or too long for a window, and for one Doc in place of
            several.
        """
        if isinstance(docs, Doc):
            raise ComponentError("Several Docs are asked at once: give a list of Docs, or ask this one by doc._.ask.")
        docs = list(docs)
        asked, alone = read_questions(questions)
        if len(docs) != len(asked):
            raise ComponentError(f"There are {len(docs)} Docs and questions for {len(asked)}: give each Doc its own.")
        if top_k < 1:
            raise ComponentError(f"top_k = {top_k} has to be at least 1.")
        found = self.find_answers(docs, self.make_windows(docs, asked), top_k)
        return [
            next(found) if is_alone else list(islice(found, len(each)))
            for is_alone, each in zip(alone, asked, strict=True)
        ]

    def find_answers(self, docs: Sequence[Doc], windows: Windows, top_k: int) -> Iterator[list[Answer]]:
        """The answers to each question of the windows, in their order."""
        logits = to_numpy(self.model.predict(windows.sequences))
        spans = find_spans(windows, logits, top_k=top_k, max_answer_length=self.max_answer_length)
        return make_answers(docs, windows, spans, top_k=top_k, threshold=self.no_answer_threshold)

    def make_windows(
        self, docs: Sequence[Doc], questions: Sequence[Sequence[str]], names: Sequence[Sequence[str]] | None = None
    ) -> Windows:
        """The sequences in which questions and Docs are encoded. names: what errors call the questions."""
        texts = [doc.text for doc in docs]
        asked = [[mend(question) for question in row] for row in questions]
        windows = make_windows(
            texts, asked, self.tokenizer, max_length=self.window_length, stride=self.stride, names=names
        )
        passage_ids, question_ids = windows.split_ids()
        who = f"The component '{self.name}'"
        self._unknown.look(who, passage_ids, lambda: texts, self.tokenizer)
        self._unknown.look(who, question_ids, lambda: [*chain.from_iterable(asked)], self.tokenizer, "question")
        return windows

    def predict(self, docs: Iterable[Doc]) -> list[list[Answer] | None]:
        """For each Doc the best answers to the questions that stand on it, None where none do."""
        docs = list(docs)
        asked = [texts_of(doc._.questions) for doc in docs]
        if not any(asked):
            return [None] * len(docs)
        return [[first for first, *_ in answers] or None for answers in self.answer(docs, asked)]

    def set_annotations(self, docs: Sequence[Doc], answered: Sequence[list[Answer] | None]) -> None:
        for doc, answers in zip(docs, answered, strict=True):
            if all(doc.vocab is not vocab for vocab in self.vocabs):
                self.vocabs.append(doc.vocab)
            if answers is not None:
                doc._.set(ANSWERS, [answer.to_dict() for answer in answers])

    # Training

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Learn from the questions of the reference Docs. The loss is a sum over windows."""
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, "QuestionAnswering.update")
        questions = [draw(row, self.questions_per_doc) for row in self.find_questions(examples)]
        windows = self.make_example_windows(examples, questions)
        if not len(windows.questions):
            return losses
        set_dropout_rate(self.model, drop)
        logits, backprop = self.model.begin_update(windows.sequences)
        loss, d_logits = cross_entropy(windows, [q for row in questions for q in row], to_numpy(logits))
        backprop(self.model.ops.asarray2f(d_logits))
        if sgd is not None:
            self.finish_update(sgd)
        losses[self.name] += loss
        return losses

    def find_questions(self, examples: Sequence[Example], *, answered: bool = True) -> list[list[Question]]:
        """The questions of each example's reference.

        answered: those alone whose answers are known, be it that there is none.
        RAISES: ComponentError where the texts of an example differ, so that offsets mean nothing; CorpusError for an answer
            that is not where it is said to be.
        """
        found = []
        for example in examples:
            questions = as_list(example.reference._.questions)
            if questions and example.predicted.text != example.reference.text:
                raise ComponentError(
                    f"The questions about {example.reference.text[:40]!r} … have offsets in a text that differs from the "
                    f"predicted Doc's, {example.predicted.text[:40]!r} …. Make both of the same text."
                )
            rows = [Question.from_dict(question, example.reference.text) for question in questions]
            found.append([row for row in rows if row.answers is not None or not answered])
        return found

    def make_example_windows(self, examples: Sequence[Example], questions: Sequence[Sequence[Question]]) -> Windows:
        """The windows of questions about the predicted Docs, which errors call by their ids."""
        docs = [example.predicted for example in examples]
        texts = [[question.text for question in row] for row in questions]
        return self.make_windows(docs, texts, [[question.name for question in row] for row in questions])

    def initialize(self, get_examples: Callable[[], Iterable[Example]], *, nlp: Language | None = None) -> None:
        """Load the encoder's checkpoint, unless it has weights already.

        RAISES: ComponentError where no example has a question whose answers are known, and no teacher knows them, and where
            `max_length` is more than the encoder takes.
        """
        validate_get_examples(get_examples, "QuestionAnswering.initialize")
        what = "a question with `answers` in `doc._.questions`"
        check_references(self.name, what, has_answers, get_examples, nlp)
        self.model.initialize()
        if complaint := self._length_complaint():
            raise ComponentError(complaint)
        questions = [q for row in self.find_questions(list(islice(get_examples(), INITIAL_SAMPLE))) for q in row]
        if self.no_answer_threshold is None and any(not question.answers for question in questions):
            warnings.warn(
                f"The component '{self.name}' learns from questions without an answer, and will still answer every question: "
                "set no_answer_threshold, such as 0.0, to let it say that there is none.",
                stacklevel=2,
            )

    # Scores

    def score(self, examples: Iterable[Example], **kwargs: Any) -> dict[str, Any]:
        """Ask the questions of the references, and compare with their answers as SQuAD's own script does.

        RETURNS: `qa_exact_match` and `qa_f1`, means over questions, 0 to 1; None without questions.
        """
        examples = list(examples)
        questions = self.find_questions(examples)
        unread = [i for i, example in enumerate(examples) if not is_answered(example.predicted, questions[i])]
        windows = self.make_example_windows([examples[i] for i in unread], [questions[i] for i in unread])
        fresh = self.find_answers([examples[i].predicted for i in unread], windows, top_k=1)
        said = {i: [next(fresh)[0].text for _ in questions[i]] for i in unread}
        pairs = [
            ([gold.text for gold in question.answers or []], text)
            for i, (example, row) in enumerate(zip(examples, questions, strict=True))
            for question, text in zip(row, said[i] if i in said else texts_in(example.predicted), strict=True)
        ]
        metrics = {"qa_exact_match": exact_match, "qa_f1": f1}
        return {
            name: MeanScore.of([best(metric, golds, text) for golds, text in pairs]) for name, metric in metrics.items()
        }

    # On disk

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Write the component: `model.safetensors` with the encoder's weights, config and tokenizer, and `head`."""
        writers: dict[str, Callable[[Path], Any]] = {
            "vocab": lambda p: self.vocab.to_disk(p, exclude=exclude),
            "model": lambda p: write_encoder(self.model.get_ref("encoder"), p.parent),
            "head": lambda p: self.model.get_ref("output_layer").to_disk(p),
        }
        util.to_disk(path, writers, exclude)

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> QuestionAnswering:
        """Read the component. Raises CheckpointError for weights that are missing or damaged."""
        readers: dict[str, Callable[[Path], Any]] = {
            "vocab": lambda p: self.vocab.from_disk(p, exclude=exclude),
            "model": lambda p: read_encoder(self.model.get_ref("encoder"), p.parent),
            "head": lambda p: self.model.get_ref("output_layer").from_disk(p),
        }
        util.from_disk(path, readers, exclude)
        if self.shim.has_weights and (complaint := self._length_complaint()):
            warnings.warn(complaint, stacklevel=2)  # what was saved before that was an error still loads
        return self
