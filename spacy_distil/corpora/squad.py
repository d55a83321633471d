"""Questions and answers from JSON of SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, 2018) and whatever shares its form."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from spacy.language import Language
from spacy.tokens import Doc

from spacy_distil.characters import is_whole
from spacy_distil.errors import CorpusError
from spacy_distil.pipeline.references import register_references

OnError = Literal["fail", "skip"]


def read(path: Path, nlp: Language, *, on_error: OnError = "fail") -> Iterator[Doc]:
    """A Doc for each paragraph, with all of its questions in `doc._.questions`.

    on_error: what happens to a question that is empty or contradicts itself, or one of whose answers is empty or does not
        stand where it is said to, and to text with half of a character: `skip` leaves it out and warns at the end, by id, a
        line for each.
    RAISES: CorpusError for a file of another form, and with `fail` for such questions, by id, before the first Doc.
    """
    register_references()
    paragraphs = [paragraph for article in read_articles(path) for paragraph in article["paragraphs"]]
    checked = [[(qa, _find_fault(qa, paragraph)) for qa in paragraph["qas"]] for paragraph in paragraphs]
    faults = [f"{_name(qa)}: {fault}" for questions in checked for qa, fault in questions if fault is not None]
    silent = [paragraph["context"] for paragraph in paragraphs if not paragraph["qas"]]
    faults += [f"a passage without questions: {_half(context)}" for context in silent if not is_whole(context)]
    report = "\n".join(faults)
    if faults and on_error == "fail":
        raise CorpusError(f"'{path}' has {len(faults)} faulty questions. Mend them, or skip them:\n{report}")
    for paragraph, questions in zip(paragraphs, checked, strict=True):
        if not is_whole(paragraph["context"]):
            continue
        doc = nlp.make_doc(paragraph["context"])
        doc._.questions = [_convert(qa) for qa, fault in questions if fault is None]
        yield doc
    if faults:
        warnings.warn(f"Skipped {len(faults)} faulty questions of '{path}':\n{report}", stacklevel=2)


def read_articles(path: Path) -> list[dict[str, Any]]:
    """The articles of a file, checked for all that `read` takes from them."""
    try:
        data = json.loads(path.read_text(encoding="utf8"))
    except ValueError as error:
        raise CorpusError(f"'{path}' is no whole JSON: {error}") from error
    articles = data.get("data") if isinstance(data, dict) else None
    if not isinstance(articles, list):
        raise CorpusError(f"'{path}' has not the form of SQuAD: an object with a list 'data' of articles.")
    for i, article in enumerate(articles):
        _check(article, {"paragraphs": list}, f"'{path}', article {i}")
        for j, paragraph in enumerate(article["paragraphs"]):
            _check(paragraph, {"context": str, "qas": list}, f"'{path}', article {i}, paragraph {j}")
            for k, qa in enumerate(paragraph["qas"]):
                place = f"'{path}', article {i}, paragraph {j}, question {k}"
                _check(qa, {"question": str}, place)
                for answer in qa.get("answers") or []:
                    _check(answer, {"text": str, "answer_start": int}, f"{place}, answer")
    return articles


def _check(value: Any, fields: dict[str, type], place: str) -> None:
    wrong = [
        name for name, kind in fields.items() if not isinstance(value, dict) or not isinstance(value.get(name), kind)
    ]
    if wrong:
        raise CorpusError(
            f"{place}: {json.dumps(value)[:60]} … has no {', '.join(map(repr, wrong))} as SQuAD's format has."
        )


def _convert(qa: dict[str, Any]) -> dict[str, Any]:
    """Without the key `answers` where the file says nothing of them: such a question is unlabelled, not unanswerable."""
    question: dict[str, Any] = {"id": str(qa.get("id", qa["question"])), "question": qa["question"]}
    if qa.get("answers") is not None:
        question["answers"] = [{"text": answer["text"], "start": answer["answer_start"]} for answer in qa["answers"]]
    return question


def _find_fault(qa: dict[str, Any], paragraph: dict[str, Any]) -> str | None:
    context, answers = paragraph["context"], qa.get("answers")
    if not is_whole(context):
        return f"its passage: {_half(context)}"
    if not is_whole(str(qa.get("id")), qa["question"], *(answer["text"] for answer in answers or [])):
        return "the id, the question or an answer has half of a character"
    if not qa["question"].strip():
        return "the question is empty"
    if qa.get("is_impossible") is True and answers:
        return f"`is_impossible` is true, and it has the answer {answers[0]['text']!r}"
    if qa.get("is_impossible") is False and answers == []:
        return "`is_impossible` is false, and it has no answer"
    for answer in answers or []:
        text, start = answer["text"], answer["answer_start"]
        if not text.strip():
            return "an answer is empty"
        if start < 0 or not context.startswith(text, start):
            found = context.find(text)
            where = f"it first occurs at {found}" if found >= 0 else "it does not occur in the passage"
            return f"the answer {text!r} is not at character {start}; {where}"
    return None


def _half(context: str) -> str:
    return f"{context[:40]!r} … has half of a character"


def _name(qa: dict[str, Any]) -> str:
    """For a line of a report. The id, or without one the question."""
    return " ".join(str(qa.get("id", qa["question"])).encode("utf8", "backslashreplace").decode("utf8").split())
