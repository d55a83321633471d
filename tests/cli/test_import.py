"""`python -m spacy distil import`, as the command line calls it; what it writes trains and teaches like any other pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
from spacy.cli._util import app
from spacy.cli.init_config import fill_config
from spacy.cli.train import train
from spacy.tokens import Doc, DocBin, Span
from typer.testing import CliRunner, Result

import spacy_distil.cli  # noqa: F401  registers the command, as spaCy's entry point does
from tests.conftest import TEXTS
from tests.hub.conftest import TAGS, TOPICS, save_head

__all__ = ["save_head"]
TRAIN = """
[nlp]
lang = "en"
pipeline = ["distilbert", "entity_tagger"]

[components]

[components.distilbert]
source = "{source}"

[components.entity_tagger]
source = "{source}"

[corpora]

[corpora.train]
@readers = "spacy.Corpus.v1"
path = "{corpus}"

[corpora.dev]
@readers = "spacy.Corpus.v1"
path = "{corpus}"

[training]
dropout = 0.0
max_steps = 60
eval_frequency = 20

[training.optimizer]
@optimizers = "Adam.v1"
learn_rate = 0.003
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["distil", *map(str, arguments)])


def says(result: Result, *words: str) -> None:
    for word in words:
        assert word in " ".join(result.output.split())


@pytest.fixture
def imported(save_head, tmp_path) -> Path:
    folder = save_head("bert", "TokenClassification", labels=TAGS)
    assert run("import", folder, tmp_path / "imported").exit_code == 0
    return tmp_path / "imported"


@pytest.fixture
def corpus(tmp_path) -> Path:
    """Capitalised words are places."""
    docs = DocBin()
    for text in TEXTS:
        doc = spacy.blank("en").make_doc(text)
        doc.ents = [Span(doc, token.i, token.i + 1, "LOC") for token in doc if token.is_title]
        docs.add(doc)
    docs.to_disk(tmp_path / "corpus.spacy")
    return tmp_path / "corpus.spacy"


def test_it_writes_a_pipeline_and_says_what_is_in_it(save_head, tmp_path):
    folder = save_head("distilbert", "SequenceClassification", num_labels=2)
    options = ["--labels", "bad, good", "--name", "mood", "--lang", "xx", "--precision", "auto"]
    result = run("import", folder, tmp_path / "a" / "b", *options)
    assert result.exit_code == 0, result.output
    says(result, "distilbert, mood", "Labels of mood: bad, good")
    nlp = spacy.load(tmp_path / "a" / "b")
    assert (nlp.lang, nlp.get_pipe("mood").labels) == ("xx", ("bad", "good"))
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_a_folder_that_is_there_is_overwritten_by_force_alone(save_head, tmp_path):
    folder = save_head("distilbert", "SequenceClassification", labels=TOPICS)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    result = run("import", folder, tmp_path / "out")
    assert result.exit_code == 1
    says(result, "is there already", "--force")
    assert (tmp_path / "out" / "old").exists()
    assert run("import", folder, tmp_path / "out", "--force").exit_code == 0
    assert not (tmp_path / "out" / "old").exists()
    assert spacy.load(tmp_path / "out").pipe_names == ["distilbert", "textcat_exclusive"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_wrong_is_said_and_nothing_is_written(save_head, tmp_path):
    result = run("import", save_head("distilbert", "MultipleChoice"), tmp_path / "out")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    says(result, "DistilBertForMultipleChoice", "Supported are")
    result = run("import", tmp_path / "nowhere", tmp_path / "out")
    says(result, "There is no folder")
    result = run("import", save_head("distilbert", "TokenClassification", labels=["O"]), tmp_path / "out")
    assert isinstance(result.exception, SystemExit)
    says(result, "'entity_tagger' has no entities to learn")
    assert not list(tmp_path.iterdir())


def test_labels_without_names_are_told(save_head, tmp_path):
    folder = save_head("distilbert", "SequenceClassification", num_labels=2)
    result = run("import", folder, tmp_path / "out")
    assert result.exit_code == 0
    says(result, "does not say what its labels mean", "--labels name0,name1")


def test_spacy_train_goes_on_from_it(imported, corpus, tmp_path):
    (tmp_path / "base.cfg").write_text(TRAIN.format(source=imported, corpus=corpus))
    fill_config(tmp_path / "train.cfg", tmp_path / "base.cfg")
    train(tmp_path / "train.cfg", tmp_path / "trained")
    nlp = spacy.load(tmp_path / "trained" / "model-best")
    assert nlp.meta["performance"]["ents_f"] > 0.9
    assert nlp.get_pipe("entity_tagger").labels == tuple(TAGS)


def test_it_teaches_a_student_of_fewer_layers(imported, corpus, tmp_path):
    result = run("init-config", imported, tmp_path / "student.cfg", "--layers", "2")
    assert result.exit_code == 0, result.output
    paths = ["--paths.train", corpus, "--paths.dev", corpus]
    steps = ["--training.max_steps", "4", "--training.eval_frequency", "2"]
    result = run("train", tmp_path / "student.cfg", "--output", tmp_path / "student", *paths, *steps)
    assert result.exit_code == 0, result.output
    student = spacy.load(tmp_path / "student" / "model-best")
    assert len(student.get_pipe("distilbert").shim.encoder.layers) == 2
    assert student.get_pipe("entity_tagger").labels == tuple(TAGS)
    assert isinstance(student("London"), Doc)


def test_a_masked_language_model_teaches_one_of_fewer_layers_on_plain_texts(save_head, corpus, tmp_path):
    assert run("import", save_head("bert", "MaskedLM"), tmp_path / "imported").exit_code == 0
    assert run("init-config", tmp_path / "imported", tmp_path / "student.cfg", "--layers", "1").exit_code == 0
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf8")
    paths = ["--paths.train", tmp_path / "texts.txt", "--paths.dev", tmp_path / "texts.txt"]
    steps = ["--training.max_steps", "4", "--training.eval_frequency", "2"]
    result = run("train", tmp_path / "student.cfg", "--output", tmp_path / "student", *paths, *steps)
    assert result.exit_code == 0, result.output
    student = spacy.load(tmp_path / "student" / "model-best")
    assert student.pipe_names == ["distilbert_mlm"]
    assert len(student.get_pipe("distilbert_mlm").shim.encoder.layers) == 1
    assert 0 <= student.meta["performance"]["mlm_accuracy"] <= 1
    assert len(student("The [MASK] was great.")._.masks) == 1
