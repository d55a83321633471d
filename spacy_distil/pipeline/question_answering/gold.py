"""What the corpus says of questions, and the loss that it gives."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc

from spacy_distil.errors import CorpusError
from spacy_distil.pipeline.question_answering.spans import log_softmax
from spacy_distil.pipeline.question_answering.windows import Floats3d, Windows
from spacy_distil.pipeline.references import as_list

Item = TypeVar("Item")


class GoldAnswer(NamedTuple):
    """text: of the answer. start: its first character in the passage."""

    text: str
    start: int


@dataclass(frozen=True)
class Question:
    """answers: none where the passage has no answer; None where nobody has said."""

    name: str
    text: str
    answers: tuple[GoldAnswer, ...] | None

    @classmethod
    def from_dict(cls, data: dict[str, Any], passage: str) -> Question:
        """From an element of `doc._.questions`. Raises CorpusError for one that is none, and for an answer that does not stand
        where it is said to."""
        try:
            text, given = data["question"], data.get("answers")
            answers = None if given is None else tuple(GoldAnswer(a["text"], a["start"]) for a in given)
        except (KeyError, TypeError, AttributeError) as error:
            raise CorpusError(
                f"{data!r:.200} in doc._.questions is no question: it has to be like "
                '{"id": "1", "question": "Who?", "answers": [{"text": "Ada", "start": 0}]}.'
            ) from error
        question = cls(str(data.get("id", text)), text, answers)
        for answer in question.misplaced(passage):
            there = passage[max(0, answer.start) :][: len(answer.text)]
            raise CorpusError(
                f"The answer {answer.text!r} to the question {question.name!r} is not at the character {answer.start} of its "
                f"passage, where {there!r} is. Mend its offset, or leave it out."
            )
        return question

    def misplaced(self, passage: str) -> list[GoldAnswer]:
        """The answers that are empty or do not stand where they are said to."""
        return [a for a in self.answers or () if not a.text or a.start < 0 or not passage.startswith(a.text, a.start)]


def has_answers(reference: Doc) -> bool:
    """Whether it has a question whose answers are known, be it that there is none."""
    return any(
        isinstance(question, dict) and question.get("answers") is not None
        for question in as_list(reference._.questions)
    )


def draw(questions: Sequence[Item], n_drawn: int) -> list[Item]:
    """At most `n_drawn` of them, at random, in their order; all for 0."""
    if not n_drawn or len(questions) <= n_drawn:
        return list(questions)
    return [questions[i] for i in sorted(random.sample(range(len(questions)), n_drawn))]


def cross_entropy(
    windows: Windows, questions: Sequence[Question], logits: NDArray[np.float32]
) -> tuple[float, NDArray[np.float32]]:
    """The cross entropy of start and end, summed over windows, and its gradient with respect to the logits, (pieces, 2).

    Where annotators disagree, each answer has its share of the probability. A question whose answers nobody has said counts for
    nothing.

    questions: those of the windows.
    logits: (pieces, 2).
    """
    targets = make_targets(windows, questions)
    log_q = log_softmax(windows.gather(logits))
    return -float((targets * log_q).sum(dtype=np.float64)), windows.scatter(
        np.exp(log_q) * targets.sum(axis=-1, keepdims=True) - targets
    )


def make_targets(windows: Windows, questions: Sequence[Question]) -> Floats3d:
    """The probabilities of start and end that the corpus gives to the columns of each window, (2, windows, columns): to each
    answer its share. One that is not wholly in the window, and no answer at all, stand for `[CLS]`."""
    targets = np.zeros((2, len(windows.questions), windows.n_columns), dtype=np.float32)
    answers = [question.answers or () for question in questions]
    owner = np.repeat(np.arange(len(questions)), [len(row) for row in answers])
    spans = _locate(windows, questions, owner)
    share = np.array([1.0 / len(row) for row in answers for _ in row], dtype=np.float32)
    # Each window meets each answer of its question.
    n_answers = np.array([len(row) for row in answers], dtype=np.int64)[windows.questions]
    first = np.searchsorted(owner, windows.questions)
    window = np.repeat(np.arange(len(windows.questions)), n_answers)
    answer = (
        np.repeat(first, n_answers) + np.arange(len(window)) - np.repeat(np.cumsum(n_answers) - n_answers, n_answers)
    )
    inside = (windows.starts[window] <= spans[answer, 0]) & (spans[answer, 1] < windows.ends[window])
    columns = np.where(inside[:, None], spans[answer] - windows.starts[window, None] + 1, 0)
    for edge in range(2):
        np.add.at(targets[edge], (window, columns[:, edge]), share[answer])
    is_unanswerable = np.array([question.answers == () for question in questions], dtype=bool)[windows.questions]
    targets[:, is_unanswerable, 0] = 1.0
    return targets


def _locate(windows: Windows, questions: Sequence[Question], owner: np.ndarray) -> np.ndarray:
    """(answers, 2): the first and the last piece that share a character with each answer."""
    spans = []
    answers = [answer for question in questions for answer in question.answers or ()]
    for number, answer in zip(owner.tolist(), answers, strict=True):
        first, last = windows.passages[windows.docs[number]].tolist()
        chars = windows.chars[first:last]
        start = first + int(np.searchsorted(chars[:, 1], answer.start, side="right"))
        end = first + int(np.searchsorted(chars[:, 0], answer.start + len(answer.text), side="left")) - 1
        spans.append((start, end) if start <= end else (-1, -1))  # of white space alone: in no window
    return np.array(spans, dtype=np.int64).reshape(-1, 2)
