"""JSON of SQuAD's form as Docs with questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.tokens import DocBin

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


def test_a_report_names_all_a_line_each(tmp_path, nlp):
    path = write(tmp_path / "a.json", [qa(f"q{i}", "Where\n?", ("Rome\n", 0)) for i in range(13)])
    names = [f"q{i}" for i in range(13)]
    with pytest.raises(CorpusError) as raised:
        next(read(path, nlp))
    assert [line.split(":")[0] for line in str(raised.value).split("\n")[1:]] == names
    with pytest.warns(UserWarning, match="Skipped 13") as caught:
        list(read(path, nlp, on_error="skip"))
    assert [line.split(":")[0] for line in str(caught[0].message).split("\n")[1:]] == names


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (qa("both", "Where?", ("London", 17), is_impossible=True), "is true, and it has the answer 'London'"),
        (qa("none", "Where?", is_impossible=False), "is false, and it has no answer"),
    ],
)
def test_a_question_that_contradicts_itself_is_a_fault(tmp_path, nlp, question, message):
    path = write(tmp_path / "a.json", [*RIGHT, question])
    with pytest.raises(CorpusError, match=f"{question['id']}: `is_impossible` {message}"):
        next(read(path, nlp))


@pytest.mark.parametrize(
    ("question", "fault"),
    [
        (qa("1", "How \ud800?"), "1: the id, the question or an answer has half of a character"),
        (qa("1", "How?", ("\ud800", 0)), "1: the id, the question"),
        (qa("\udfff", "How?"), r"\\udfff: the id, the question"),
        ({"question": "How \ud800?"}, r"How \\ud800\?: the id, the question"),
    ],
)
def test_half_of_a_character_is_a_fault(tmp_path, nlp, question, fault):
    path = write(tmp_path / "a.json", [*RIGHT, question])
    with pytest.raises(CorpusError, match=fault):
        next(read(path, nlp))
    with pytest.warns(UserWarning, match=fault):
        (doc,) = read(path, nlp, on_error="skip")
    assert [question["id"] for question in doc._.questions] == ["1", "2", "3"]
    DocBin(docs=[doc], store_user_data=True).to_bytes()


@pytest.mark.parametrize(
    ("questions", "fault"),
    [([qa("1", "How?")], "1: its passage: 'a half "), ([], "a passage without questions: 'a half ")],
)
def test_a_passage_with_half_of_a_character_is_left_out(tmp_path, nlp, questions, fault):
    path = write(tmp_path / "a.json", questions, "a half \ud800")
    with pytest.raises(CorpusError, match=fault):
        next(read(path, nlp))
    with pytest.warns(UserWarning, match=fault):
        assert list(read(path, nlp, on_error="skip")) == []


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
