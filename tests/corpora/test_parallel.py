"""Texts and translations from files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin

from spacy_distil.corpora.parallel import read
from spacy_distil.errors import CorpusError


@pytest.fixture
def nlp() -> spacy.language.Language:
    return spacy.blank("en")


def rows(path: Path, nlp: spacy.language.Language) -> list[tuple[str, list[str]]]:
    return [(doc.text, doc._.translations) for doc in read(path, nlp)]


def test_neighbouring_lines_of_a_text_are_its_translations(tmp_path: Path, nlp: spacy.language.Language) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(
        "Go on.\tMach weiter.\nGo on.\tWeiter!\n\nGo on.\tWeiter!\nI try.\tIch probiere es.\tCC-BY 2.0 (France)\nHush\t \n",
        encoding="utf8",
    )
    assert rows(path, nlp) == [
        ("Go on.", ["Mach weiter.", "Weiter!"]),
        ("I try.", ["Ich probiere es."]),
        ("Hush", []),
    ]


def test_compressed_lines_are_read(tmp_path: Path, nlp: spacy.language.Language) -> None:
    path = tmp_path / "pairs.tsv.gz"
    path.write_bytes(gzip.compress(b"Yes.\tJa.\r\n"))
    assert rows(path, nlp) == [("Yes.", ["Ja."])]


@pytest.mark.parametrize(
    "record",
    [
        {"text": "Yes.", "translations": ["Ja.", "Doch."]},
        {"source": "Yes.", "target": ["Ja.", "Doch."]},
        {"text": "Yes.", "translation": ["Ja.", "Doch."]},
    ],
)
def test_records_are_read(tmp_path: Path, nlp: spacy.language.Language, record: dict) -> None:
    path = tmp_path / "pairs.jsonl"
    lines = [record, {"text": "No.", "translation": "Nein."}, {"text": "  ", "translation": "Nein."}]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf8")
    assert rows(path, nlp) == [("Yes.", ["Ja.", "Doch."]), ("No.", ["Nein."])]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.txt", "Yes.\tJa.\nNo tab here\n", "line 2 has no tab: 'No tab here'"),
        ("a.txt", "\tJa.\n", "line 1 has nothing before its tab"),
        ("a.jsonl", '{"text": "Yes."}\n', "line 1 has none of 'translations', 'translation', 'target'"),
        ("a.jsonl", '{"translation": "Ja."}\n', "line 1 has none of 'text', 'source'"),
        ("a.jsonl", '{"text": "Yes.", "translation": 3}\n', "neither a string nor a list"),
        ("a.jsonl", '{"text": 3, "translation": "Ja."}\n', "not a string"),
        ("a.jsonl", "{\n", "is no JSON"),
        ("a.jsonl", '{"text": "\\ud800", "translation": "Ja."}\n', "line 1: the text .* has half of a character"),
        ("a.jsonl", '{"text": "Yes.", "translation": "\\ud800"}\n', "line 1: the text .* has half of a character"),
    ],
)
def test_a_line_that_is_no_pair_is_an_error_that_names_it(
    tmp_path: Path, nlp: spacy.language.Language, name: str, text: str, told: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf8")
    with pytest.raises(CorpusError, match=told):
        rows(tmp_path / name, nlp)


def test_translations_survive_a_file_of_docs(tmp_path: Path, nlp: spacy.language.Language) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("Yes.\tJa.\n", encoding="utf8")
    DocBin(docs=read(path, nlp), store_user_data=True).to_disk(tmp_path / "pairs.spacy")
    (doc,) = DocBin().from_disk(tmp_path / "pairs.spacy").get_docs(nlp.vocab)
    assert list(doc._.translations) == ["Ja."]
