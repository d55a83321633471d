"""`python -m spacy distil convert`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import spacy
from spacy.cli._util import app
from spacy.tokens import DocBin
from typer.testing import CliRunner

from spacy_distil.cli import convert
from tests.corpora.test_squad import CONTEXT, RIGHT, WRONG, write

runner = CliRunner()


def run(*args: str | Path):
    return runner.invoke(app, ["distil", "convert", *map(str, args)])


def said(result) -> str:
    return re.sub(r"\s+", " ", result.output)


def test_squad_becomes_a_file_of_docs_with_questions(tmp_path):
    result = run(
        write(tmp_path / "a.json", RIGHT), tmp_path / "new" / "a.spacy", "--converter", "squad", "--lang", "de"
    )
    assert result.exit_code == 0
    assert "a.spacy: 1 Docs" in said(result)
    (doc,) = DocBin().from_disk(tmp_path / "new" / "a.spacy").get_docs(spacy.blank("de").vocab)
    assert doc.text == CONTEXT
    assert [question["id"] for question in doc._.questions] == ["1", "2", "3"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.spacy"]


def test_faulty_answers_fail_or_are_skipped_by_option(tmp_path):
    source, target = write(tmp_path / "a.json", RIGHT + WRONG), tmp_path / "a.spacy"
    for options in ([], ["--on-error", "fail"]):
        result = run(source, target, "-c", "squad", *options)
        assert result.exit_code == 1
        assert "absent: the answer 'Paris'" in said(result)
        assert not target.exists()
    result = run(source, target, "-c", "squad", "--on-error", "skip")
    assert result.exit_code == 0
    assert "Skipped 5 faulty questions" in said(result)
    assert "absent: the answer 'Paris'" in said(result)
    assert target.exists()


def test_an_option_that_a_converter_lacks_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setitem(convert.CONVERTERS, "parallel", "tests.cli.test_convert")
    result = run(write(tmp_path / "a.json", RIGHT), tmp_path / "a.spacy", "-c", "parallel", "--on-error", "skip")
    assert result.exit_code == 1
    assert "'parallel' has no option --on-error" in said(result)


def read(path, nlp):
    yield from ()


def test_a_file_without_a_text_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setitem(convert.CONVERTERS, "parallel", "tests.cli.test_convert")
    result = run(write(tmp_path / "a.json", RIGHT), tmp_path / "a.spacy", "-c", "parallel")
    assert result.exit_code == 1
    assert "There is no text in" in said(result)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, tmp_path_factory, monkeypatch):
    given = write(tmp_path_factory.mktemp("given") / "a.json", RIGHT)
    target = tmp_path / "a.spacy"
    target.write_text("old")

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        convert.convert(given, target, "squad", "en", None)
    result = run(given, target, "-c", "squad")
    assert isinstance(result.exception, SystemExit)
    assert "disk full" in said(result)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_unknown_converter_is_named_with_those_that_are_there(tmp_path):
    result = run(write(tmp_path / "a.json", RIGHT), tmp_path / "a.spacy", "-c", "conll")
    assert result.exit_code == 2
    assert "squad" in said(result)


def test_a_language_that_is_not_there_is_an_error(tmp_path):
    result = run(write(tmp_path / "a.json", RIGHT), tmp_path / "a.spacy", "-c", "squad", "-l", "qq")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "spaCy has no language 'qq', or lacks what it needs" in said(result)


def test_a_report_has_a_line_for_each_fault(tmp_path):
    path = write(tmp_path / "a.json", RIGHT + [{**WRONG[1], "id": f"question-{i}"} for i in range(12)])
    for options in ([], ["--on-error", "skip"]):
        lines = run(path, tmp_path / "a.spacy", "-c", "squad", *options).output.split("\n")
        told = [line.strip() for line in lines if "Paris" in line]
        fault = "the answer 'Paris' is not at character 17; it does not occur in the passage"
        assert told == [f"question-{i}: {fault}" for i in range(12)]


@pytest.mark.parametrize(
    ("converter", "records"),
    [
        ("summaries", [{"text": "A."}, {"text": "B.", "summary": ""}, {"text": "C.", "summary": "C"}]),
        ("parallel", [{"text": text, "translation": written} for text, written in ("A ", "B ", "Cc")]),
    ],
)
def test_texts_without_a_reference_are_counted(tmp_path, converter, records):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    assert "2 of 3 texts of" in said(run(path, tmp_path / "a.spacy", "-c", converter))
    path.write_text(f"{json.dumps(records[-1])}\n")
    assert "no reference" not in said(run(path, tmp_path / "a.spacy", "-c", converter))
