"""Texts with summaries, read from lines of JSON, and given to a pipeline with their sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.tokens import Doc, DocBin

from spacy_distil.corpora.summaries import read, summary_corpus
from spacy_distil.errors import CorpusError

SOURCE = ["We study  cats.", "Cats (felis catus) sleep.", "They eat."]


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(*records: Any) -> Path:
        path = tmp_path / "texts.jsonl"
        path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf8")
        return path

    return write


def read_one(path: Path) -> Doc:
    (doc,) = read(path, spacy.blank("en"))
    return doc


def sentences(doc: Doc) -> list[str]:
    return [sentence.text for sentence in doc.sents]


def test_a_line_of_scitldr_becomes_a_doc_with_its_sentences_summaries_and_salient_sentence(write: Any) -> None:
    target = ["Cats are studied.", "About cats."]
    doc = read_one(
        write({"source": SOURCE, "source_labels": [0, 1, 0], "rouge_scores": [0.1, 0.5, 0], "target": target})
    )
    assert doc.text == " ".join(SOURCE)
    assert sentences(doc) == SOURCE
    assert doc._.summaries == target
    assert doc._.salient == [1]


def test_a_text_with_offsets_has_the_sentences_between_them(write: Any) -> None:
    text = "Hello there. \n How are you? Fine."
    offsets = [[0, 12], [15, 27], [28, 33]]
    doc = read_one(write({"text": text, "sentences": offsets, "summary": "Fine.", "salient": [2, 0]}))
    assert doc.text == text
    assert [sentence.text.strip() for sentence in doc.sents] == ["Hello there.", "How are you?", "Fine."]
    assert doc._.summaries == ["Fine."]
    assert doc._.salient == [0, 2]


def test_a_text_alone_has_neither_sentences_nor_references(write: Any) -> None:
    doc = read_one(write({"text": "Hello there. Hello."}))
    assert not doc.has_annotation("SENT_START")
    assert doc._.summaries is None
    assert doc._.salient is None


@pytest.mark.parametrize("key", ["summary", "summaries", "target"])
@pytest.mark.parametrize("value", ["One.", ["One.", "Two."], [""], []])
def test_references_stand_under_any_of_their_names(write: Any, key: str, value: str | list[str]) -> None:
    doc = read_one(write({"sentences": SOURCE, key: value}))
    assert doc._.summaries == ([value] if isinstance(value, str) else value)


def test_sentences_of_white_space_are_none_and_the_others_keep_their_labels(write: Any) -> None:
    doc = read_one(
        write({"source": ["  ", " We study cats.", "", "They\n\n eat.", " "], "source_labels": [1, 0, 1, 1, 0]})
    )
    assert [sentence.text.split() for sentence in doc.sents] == [["We", "study", "cats."], ["They", "eat."]]
    assert doc._.salient == [1]


def test_a_boundary_within_a_token_moves_to_its_start(write: Any) -> None:
    doc = read_one(write({"text": "See example.org/now for it", "sentences": [[0, 12], [12, 26]], "salient": [1]}))
    assert sentences(doc) == ["See", "example.org/now for it"]
    assert doc._.salient == [1]


def test_an_empty_document_is_read(write: Any) -> None:
    doc = read_one(write({"source": [], "source_labels": [], "target": []}))
    assert len(doc) == 0
    assert doc._.salient == []


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"title": "Cats"}, "has no text"),
        ({"source": "A text."}, "`source` that is no list of strings"),
        ({"source": ["A.", 2]}, "`source` that is no list of strings"),
        ({"text": ["A."]}, "`text` that is no string"),
        ({"text": "A. B.", "sentences": [[3, 5], [0, 2]]}, "offsets in its text of 5 characters"),
        ({"text": "A. B.", "sentences": [[0, 6]]}, "offsets in its text of 5 characters"),
        ({"text": "A. B.", "sentences": ["A.", "B."]}, "offsets in its text of 5 characters"),
        ({"text": "A. B.", "salient": [0]}, "no sentences that it could name"),
        ({"source": ["A.", "B."], "salient": [2]}, r"`salient` \[2\] of 2 sentences"),
        ({"source": ["A.", "B."], "source_labels": [1]}, "1 `source_labels` for 2 sentences"),
        ({"source": ["A."], "target": [1]}, "`target` that is no list of strings"),
        ("A.", "is no JSON object"),
        ({"text": "A \ud800."}, "has half of a character"),
        ({"source": ["A \ud800."]}, "has half of a character"),
        ({"text": "A.", "summary": "\ud800"}, "has half of a character"),
    ],
)
def test_a_faulty_line_is_an_error_that_names_it(write: Any, record: Any, message: str) -> None:
    path = write({"text": "Fine."}, record)
    with pytest.raises(CorpusError, match=rf"texts\.jsonl', line 2.*{message}"):
        list(read(path, spacy.blank("en")))


def test_a_file_that_is_cut_off_is_an_error(write: Any) -> None:
    path = write({"source": SOURCE})
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorpusError, match="cut off"):
        list(read(path, spacy.blank("en")))


@pytest.mark.parametrize("kind", ["jsonl", "spacy"])
def test_the_reader_gives_the_pipeline_the_sentences_and_nothing_else(write: Any, tmp_path: Path, kind: str) -> None:
    path = write(
        {"source": SOURCE, "source_labels": [0, 1, 0], "target": ["About cats."]}, {"text": "No sentences. None."}
    )
    if kind == "spacy":
        docs = list(read(path, spacy.blank("en")))
        path = tmp_path / "texts.spacy"
        DocBin(docs=docs, store_user_data=True).to_disk(path)
    examples = list(summary_corpus(str(path))(spacy.blank("en")))
    assert list(examples[0].reference._.summaries) == ["About cats."]
    assert examples[1].reference._.summaries is None
    assert [example.predicted._.summaries for example in examples] == [None, None]
    assert [token.text for token in examples[0].predicted] == [token.text for token in examples[0].reference]
    assert sentences(examples[0].predicted) == SOURCE
    assert not examples[1].predicted.has_annotation("SENT_START")


def test_a_sentencizer_leaves_the_corpus_its_sentences(write: Any) -> None:
    source = ["Cats, dogs. And", "birds. All of them."]
    (example,) = summary_corpus(str(write({"source": source})))(spacy.blank("en"))
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    assert sentences(nlp(example.predicted)) == source


def test_a_corpus_without_a_path_is_an_error() -> None:
    with pytest.raises(CorpusError, match="needs a `path`"):
        summary_corpus(None)
