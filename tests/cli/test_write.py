"""`python -m spacy distil write`, as the command line calls it."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
from spacy.cli._util import app
from spacy.tokens import DocBin
from typer.testing import CliRunner, Result

import spacy_distil.cli  # noqa: F401  registers the command, as spaCy's entry point does
from tests.pipeline.generation import PAIRS, build, examples


@pytest.fixture(scope="module")
def folder(distilbert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("writer")
    build(distilbert_folder, max_length=8)[0].to_disk(path)
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    made = examples(spacy.blank("en"), [*PAIRS[:2], ("London", "")])
    DocBin(docs=[example.reference for example in made], store_user_data=True).to_disk(tmp_path / "corpus.spacy")
    return tmp_path / "corpus.spacy"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["distil", "write", *map(str, arguments)])


def read(path: Path) -> list[tuple[str, list[str]]]:
    docs = DocBin().from_disk(path).get_docs(spacy.blank("en").vocab)
    return [(doc.text, list(doc._.translations)) for doc in docs]


def test_the_references_are_what_the_pipeline_writes(folder: Path, corpus: Path, tmp_path: Path) -> None:
    result = run(folder, corpus, tmp_path / "out.spacy", "--beams", 1)
    assert result.exit_code == 0, result.output
    nlp = spacy.load(folder, config={"components": {"distilbert_seq2seq": {"beams": 1}}})
    texts = [PAIRS[0][0], PAIRS[1][0], "London"]
    assert read(tmp_path / "out.spacy") == [(text, [nlp(text)._.translation]) for text in texts]


def test_the_corpus_keeps_its_own_references_if_asked_to(folder: Path, corpus: Path, tmp_path: Path) -> None:
    assert run(folder, corpus, tmp_path / "out.spacy", "--keep").exit_code == 0
    nlp = spacy.load(folder)
    expected = [
        [PAIRS[0][1], nlp(PAIRS[0][0])._.translation],
        [PAIRS[1][1], nlp(PAIRS[1][0])._.translation],
        [nlp("London")._.translation],
    ]
    assert [translations for _, translations in read(tmp_path / "out.spacy")] == expected


def test_plain_texts_are_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("London\nThe film\n", encoding="utf8")
    assert run(folder, tmp_path / "texts.txt", tmp_path / "out.spacy").exit_code == 0
    assert [text for text, _ in read(tmp_path / "out.spacy")] == ["London", "The film"]


def test_a_pipeline_that_writes_nothing_is_an_error(corpus: Path, tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path / "nlp")
    result = run(tmp_path / "nlp", corpus, tmp_path / "out.spacy")
    assert result.exit_code == 1
    assert "it has sentencizer" in " ".join(result.output.split())
    assert not (tmp_path / "out.spacy").exists()
