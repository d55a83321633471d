"""JSON of SQuAD's form as Docs with questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import spacy

from spacy_distil.corpora.squad import read
from spacy_distil.errors import CorpusError

CONTEXT = "Ada met Bruno in London, and Carla in Berlin.\n"


def qa(name: str, question: str, *answers: tuple[str, int], **more: Any) -> dict[str, Any]:
    return {"id": name, "question": question, "answers": [{"text": t, "answer_start": s} for t, s in answers], **more}


RIGHT = [
    qa("1", "Whom did Ada meet in London?", ("Bruno", 8), ("Bruno in London", 8)),
    qa("2", "Whom did Ada meet in Rome?", is_impossible=True, plausible_answers=[{"text": "Bruno", "answer_start": 8}]),
    {"id": "3", "question": "Who is it?"},
]
WRONG = [
    qa("elsewhere", "Where?", ("London", 16)),
    qa("absent", "Where?", ("Paris", 17)),
    qa("before", "Where?", (".\n", -2)),
    qa("nothing", "Where?", (" ", 3)),
    qa("mute", "  ", ("London", 17)),
]


def write(path: Path, questions: list[dict[str, Any]], context: str = CONTEXT) -> Path:
    data = {"version": "v2.0", "data": [{"title": "Ada", "paragraphs": [{"context": context, "qas": questions}]}]}
    path.write_text(json.dumps(data), encoding="utf8")
    return path


@pytest.fixture
def nlp():
    return spacy.blank("en")


def test_a_paragraph_is_a_doc_with_all_of_its_questions(tmp_path, nlp):
    (doc,) = read(write(tmp_path / "a.json", RIGHT), nlp)
    assert doc.text == CONTEXT
    assert doc._.questions == [
        {
            "id": "1",
            "question": "Whom did Ada meet in London?",
            "answers": [{"text": "Bruno", "start": 8}, {"text": "Bruno in London", "start": 8}],
        },
        {"id": "2", "question": "Whom did Ada meet in Rome?", "answers": []},
        {"id": "3", "question": "Who is it?"},
    ]


def test_faulty_questions_fail_by_id_before_the_first_doc(tmp_path, nlp):
    path = write(tmp_path / "a.json", RIGHT + WRONG)
    with pytest.raises(CorpusError) as raised:
        next(read(path, nlp))
    message = str(raised.value)
    assert "has 5 faulty questions" in message
    assert "elsewhere: the answer 'London' is not at character 16; it first occurs at 17" in message
    assert "absent: the answer 'Paris' is not at character 17; it does not occur in the passage" in message
    for rest in ("before: the answer", "nothing: an answer is empty", "mute: the question is empty"):
        assert rest in message


def test_faulty_questions_are_skipped_with_a_warning_by_id(tmp_path, nlp):
    path = write(tmp_path / "a.json", RIGHT + WRONG)
    with pytest.warns(UserWarning, match=r"Skipped 5 faulty questions(.|\n)*elsewhere: (.|\n)*mute: "):
        (doc,) = read(path, nlp, on_error="skip")
    assert [question["id"] for question in doc._.questions] == ["1", "2", "3"]


def test_a_report_names_the_first_ten(tmp_path, nlp):
    path = write(tmp_path / "a.json", [qa(f"q{i}", "Where?", ("Rome", 0)) for i in range(13)])
    with pytest.raises(CorpusError, match=r"q9: (.|\n)*… and 3 more") as raised:
        next(read(path, nlp))
    assert "q10" not in str(raised.value)


def test_characters_are_those_of_the_text_not_of_its_bytes(tmp_path, nlp):
    (doc,) = read(write(tmp_path / "a.json", [qa("1", "Who?", ("Zoë", 3))], "😀: Zoë"), nlp)
    assert doc._.questions[0]["answers"] == [{"text": "Zoë", "start": 3}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"data": [', "no whole JSON"),
        ("[]", "has not the form of SQuAD"),
        ('{"data": [{}]}', "article 0.* has no 'paragraphs'"),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', "article 0, paragraph 0.* has no 'context'"),
        ('{"data": [{"paragraphs": [{"context": "a", "qas": ["b"]}]}]}', "question 0.* has no 'question'"),
        (
            '{"data": [{"paragraphs": [{"context": "a", "qas": [{"question": "b", "answers": [{"text": "a"}]}]}]}]}',
            "question 0, answer.* has no 'answer_start'",
        ),
    ],
)
def test_another_form_is_an_error_that_says_where(tmp_path, nlp, content, message):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(CorpusError, match=message):
        next(read(path, nlp))
