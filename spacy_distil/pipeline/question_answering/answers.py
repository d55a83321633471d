"""Answers as spans of a Doc, and the method by which a Doc is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np
from spacy.tokens import Doc, Span

from spacy_distil.errors import ComponentError
from spacy_distil.pipeline.question_answering.gold import Question
from spacy_distil.pipeline.question_answering.spans import Spans
from spacy_distil.pipeline.question_answering.windows import Windows
from spacy_distil.pipeline.references import as_list

if TYPE_CHECKING:
    from spacy_distil.pipeline.question_answering.component import QuestionAnswering

ASK, ANSWERS = "ask", "answers"


@dataclass(frozen=True)
class Answer:
    """An answer to a question.

    span: the tokens that share a character with it; None where the Doc has no answer.
    start_char, end_char: its characters in the Doc's text, 0 and 0 for no answer. They may lie within the first and the last
        token.
    text: those characters.
    score: P(start) · P(end), from 0 to 1; of no answer that of `[CLS]`.
    """

    span: Span | None
    start_char: int
    end_char: int
    text: str
    score: float

    def to_dict(self) -> dict[str, Any]:
        """What a Doc can keep, however it is saved: all but the span."""
        return {"text": self.text, "start_char": self.start_char, "end_char": self.end_char, "score": self.score}


def make_answers(
    docs: Sequence[Doc], windows: Windows, spans: Spans, *, top_k: int, threshold: float | None
) -> Iterator[list[Answer]]:
    """The answers to each question, best first.

    threshold: no answer comes first where the logits of `[CLS]` exceed those of the best span by more than this. None: never.
    """
    texts = [doc.text for doc in docs]
    chars = windows.chars
    bounds = np.searchsorted(spans.questions, np.arange(len(windows.docs) + 1)).tolist()
    for question, number in enumerate(windows.docs.tolist()):
        first, last = bounds[question], bounds[question + 1]
        null = Answer(None, 0, 0, "", float(spans.null_scores[question]))
        if first == last:
            yield [null]
            continue
        best = float(spans.logits[first:last].max())
        is_null = threshold is not None and float(spans.null_logits[question]) - best > threshold
        found = [null] if is_null else []
        for i in range(first, min(last, first + top_k - len(found))):
            start, end = int(chars[spans.starts[i], 0]), int(chars[spans.ends[i], 1])
            span = docs[number].char_span(start, end, alignment_mode="expand")
            found.append(Answer(span, start, end, texts[number][start:end], float(spans.scores[i])))
        yield found


def read_questions(questions: Iterable[str | Iterable[str]]) -> tuple[list[list[str]], list[bool]]:
    """Those about each Doc, and whether a Doc has a question alone, not a list of them.

    RAISES: ComponentError for one that is no text.
    """
    if isinstance(questions, str) or not isinstance(questions, Iterable):
        raise ComponentError(f"{questions!r:.80} are no questions: give a text, or a list of texts, for each Doc.")
    asked: list[list[Any]] = []
    alone = []
    for each in questions:
        alone.append(isinstance(each, str | dict) or not isinstance(each, Iterable))
        asked.append([each] if alone[-1] else list(each))
    for question in chain.from_iterable(asked):
        if not isinstance(question, str):
            raise ComponentError(
                f"{question!r:.80} is no question: ask with a text, such as 'Where?', or with a list of texts."
            )
    return asked, alone


def texts_of(questions: str | Sequence[str | dict[str, Any]] | None) -> list[str]:
    """The questions that stand on a Doc: as texts, or as a corpus has them.

    RAISES: ComponentError for something else.
    """
    try:
        return [question if isinstance(question, str) else question["question"] for question in as_list(questions)]
    except (KeyError, TypeError) as error:
        raise ComponentError(
            f"{questions!r:.80} in doc._.questions are no questions: give a list of texts, such as ['Where?'], or of what a "
            'corpus has, such as [{"question": "Where?"}].'
        ) from error


def is_answered(doc: Doc, questions: Sequence[Question]) -> bool:
    """Whether a component has answered these questions on the Doc."""
    asked = [question.text for question in questions]
    return doc._.get(ANSWERS) is not None and texts_of(doc._.questions) == asked


def texts_in(doc: Doc) -> list[str]:
    """The answers that stand on a Doc."""
    return [answer["text"] for answer in doc._.get(ANSWERS)]


_components: WeakValueDictionary[int, QuestionAnswering] = WeakValueDictionary()
"""All components that are left, in the order in which they were made."""
_numbers = count()


def register(component: QuestionAnswering) -> None:
    """Let the Docs of the component's vocabularies be asked by it."""
    _components[next(_numbers)] = component
    if not Doc.has_extension(ASK):
        Doc.set_extension(ASK, method=ask)
    if not Doc.has_extension(ANSWERS):
        Doc.set_extension(ANSWERS, default=None)


def ask(doc: Doc, question: str | Sequence[str], top_k: int = 1, component: str | None = None) -> list[Any]:
    """`doc._.ask`: the answers to a question, best first; to several questions, a list for each.

    top_k: the most answers.
    component: the name of the one that answers, where the pipeline has several.
    RAISES: ComponentError where there is none, or several of which none is named.
    """
    every = list(_components.values())
    able = {pipe.name: pipe for pipe in every if any(vocab is doc.vocab for vocab in pipe.vocabs)}
    if component is None and len(able) == 1:
        component = next(iter(able))
    if component not in able:
        raise ComponentError(
            (f"No component {component!r} can answer questions about this Doc. " if component else "")
            + (
                f"Its pipeline has {', '.join(map(repr, sorted(able)))}: name one by `component`."
                if able
                else "The Doc's vocabulary has no component distilbert_qa, or its pipeline is gone. Keep the pipeline that "
                "made the Doc, and give it one by nlp.add_pipe."
            )
        )
    return able[component].answer([doc], [question], top_k)[0]
