"""`python -m spacy distil train`, as the command line calls it."""

import shutil
from pathlib import Path

import pytest
import spacy
from spacy.cli._util import app
from spacy.tokens import Span
from typer.testing import CliRunner, Result

import spacy_distil.cli  # noqa: F401  registers the command, as spaCy's entry point does
from spacy_distil.distillation.errors import TeacherError
from spacy_distil.distillation.update import DistillationUpdate
from tests.distillation.toy import SENTIMENTS, agreement, config, examples, sentences, write_corpus


@pytest.fixture
def student(tmp_path: Path) -> Path:
    path = tmp_path / "student.cfg"
    path.write_text(config(shared=False))
    return path


def distil_train(student: Path, teacher: Path, corpus: Path, output: Path, *more: str) -> Result:
    command = ["distil", "train", str(student), "--teacher", str(teacher), "--output", str(output)]
    paths = ["--paths.train", str(corpus / "train.spacy"), "--paths.dev", str(corpus / "dev.spacy")]
    return CliRunner().invoke(app, [*command, *paths, *more])


def assert_refused(result: Result, output: Path, *words: str) -> None:
    """A message, no traceback, and nothing left behind."""
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    for word in words:
        assert word in " ".join(result.output.split())
    assert not output.exists()


def test_student_says_what_the_teacher_says(student, teacher, teacher_path, corpus, tmp_path):
    result = distil_train(student, teacher_path, corpus, tmp_path / "a" / "b", "--temperature", "1.5")
    assert result.exit_code == 0, result.output
    nlp = spacy.load(tmp_path / "a" / "b" / "model-best")
    after = agreement(nlp, teacher)
    assert all(share > 0.85 for share in after.values()), after
    assert str(teacher_path) not in (tmp_path / "a" / "b" / "model-best" / "config.cfg").read_text()
    assert not isinstance(nlp.update, DistillationUpdate)


def test_student_can_be_trained_on_where_there_is_no_teacher(student, teacher_path, corpus, tmp_path):
    moved = shutil.copytree(teacher_path, tmp_path / "teacher")
    distil_train(student, moved, corpus, tmp_path / "out", "--training.max_steps", "2")
    shutil.rmtree(moved)
    nlp = spacy.load(tmp_path / "out" / "model-last")
    nlp.resume_training()
    losses = nlp.update(examples(2, seed=0, annotate="sentiment", vocab=nlp.vocab), exclude=["textcat_multilabel"])
    assert losses["ner"] > 0


def test_labels_of_the_config_are_left_alone(student, teacher_path, corpus, tmp_path):
    student.write_text(
        student.read_text() + "\n[initialize]\n[initialize.components]\n[initialize.components.textcat]\n"
        'labels = ["GOOD", "BAD", "ODD"]\n'
    )
    result = distil_train(student, teacher_path, corpus, tmp_path / "out")
    assert_refused(result, tmp_path / "out", "'ODD'", "'SOSO'")


def test_component_that_is_not_taught_has_the_labels_of_the_corpus(student, teacher_path, corpus, tmp_path):
    student.write_text(f'{config(heads=("textcat", "ner"), shared=False)}\n[distillation]\ncomponents = ["textcat"]\n')
    docs = sentences(20, seed=5, annotate="sentiment")
    for doc in docs:
        doc.ents = [Span(doc, ent.start, ent.end, "NAME") for ent in doc.ents]
    write_corpus(tmp_path / "train.spacy", docs)
    shutil.copy(corpus / "dev.spacy", tmp_path)
    result = distil_train(student, teacher_path, tmp_path, tmp_path / "out", "--training.max_steps", "2")
    assert result.exit_code == 0, result.output
    nlp = spacy.load(tmp_path / "out" / "model-last")
    assert nlp.get_pipe("ner").labels == ("NAME",)
    assert set(nlp.get_pipe("textcat").labels) == set(SENTIMENTS)


def test_wrong_name_among_the_components_is_refused(student, teacher_path, corpus, tmp_path):
    student.write_text(student.read_text() + '\n[distillation]\ncomponents = ["nerr"]\n')
    result = distil_train(student, teacher_path, corpus, tmp_path / "out")
    assert_refused(result, tmp_path / "out", "'nerr', which the student has not", "textcat_multilabel, ner")


def test_options_reach_the_update(student, teacher_path, corpus, tmp_path):
    for option, value in (("--temperature", "0"), ("--soft-weight", "-1"), ("--gold-weight", "-2")):
        result = distil_train(student, teacher_path, corpus, tmp_path / "out", option, value)
        assert_refused(result, tmp_path / "out", f"{option[2:].replace('-', '_')} = {value}")


def test_unknown_option_is_refused(student, teacher_path, corpus, tmp_path):
    result = distil_train(student, teacher_path, corpus, tmp_path / "out", "--temprature", "2")
    assert_refused(result, tmp_path / "out", "--temprature")


def test_weights_that_sum_to_nothing_are_refused(student, teacher_path, corpus, tmp_path):
    result = distil_train(student, teacher_path, corpus, tmp_path / "out", "--soft-weight", "0", "--gold-weight", "0")
    assert_refused(result, tmp_path / "out", "both 0")


def test_path_that_is_no_teacher_is_refused(student, corpus, tmp_path):
    result = distil_train(student, tmp_path / "nowhere", corpus, tmp_path / "out")
    assert_refused(result, tmp_path / "out", "nowhere", "is no pipeline")


def test_callback_that_is_there_already_is_refused(student, teacher_path, corpus, tmp_path):
    callback = '\n[initialize]\n[initialize.after_init]\n@callbacks = "spacy.models_with_nvtx_range.v1"\n'
    student.write_text(student.read_text() + callback)
    result = distil_train(student, teacher_path, corpus, tmp_path / "out")
    assert_refused(result, tmp_path / "out", "[initialize.after_init]", "nvtx")


def test_nothing_in_common_is_refused(student, teacher_path, corpus, tmp_path):
    student.write_text(
        config(heads=("ner",)).replace("components.ner", "components.names").replace('"ner"]', '"names"]')
    )
    result = distil_train(student, teacher_path, corpus, tmp_path / "out")
    assert_refused(result, tmp_path / "out", "Nothing to distil", "names")


def test_verbose_shows_where_it_stopped(student, corpus, tmp_path):
    with_traceback = distil_train(student, tmp_path / "nowhere", corpus, tmp_path / "out", "--verbose")
    assert isinstance(with_traceback.exception, TeacherError)


def test_output_that_is_a_file_is_refused(student, teacher_path, corpus, tmp_path):
    (tmp_path / "file").touch()
    result = distil_train(student, teacher_path, corpus, tmp_path / "file")
    assert result.exit_code == 1
    assert "is a file" in " ".join(result.output.split())


def test_missing_corpus_is_refused(student, teacher_path, tmp_path):
    result = distil_train(student, teacher_path, tmp_path / "no_corpus", tmp_path / "out")
    assert_refused(result, tmp_path / "out", "no_corpus")


def test_missing_dev_corpus_leaves_nothing(student, teacher_path, corpus, tmp_path):
    (tmp_path / "corpus").mkdir()
    shutil.copy(corpus / "train.spacy", tmp_path / "corpus")
    result = distil_train(student, teacher_path, tmp_path / "corpus", tmp_path / "out")
    assert_refused(result, tmp_path / "out", "dev.spacy")


def test_config_without_components_is_refused(student, teacher_path, corpus, tmp_path):
    student.write_text('[nlp]\nlang = "en"\npipeline = []\n')
    assert_refused(distil_train(student, teacher_path, corpus, tmp_path / "out"), tmp_path / "out")


def test_importing_the_commands_imports_nothing_heavy():
    import subprocess
    import sys

    code = "import spacy_distil.cli, sys; print([m for m in sys.modules if m.startswith('spacy_distil.')])"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "distillation" not in modules


def test_run_without_a_checkpoint_can_not_be_resumed(student, teacher_path, corpus, tmp_path):
    result = distil_train(student, teacher_path, corpus, tmp_path / "out", "--resume")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "checkpoint" in result.output


def test_block_of_the_config_names_the_teacher(student, teacher_path, corpus, tmp_path):
    student.write_text(student.read_text() + f'\n[distillation]\nteacher = "{teacher_path}"\ntemperature = 0.0\n')
    paths = ["--paths.train", str(corpus / "train.spacy"), "--paths.dev", str(corpus / "dev.spacy")]
    command = ["distil", "train", str(student), "--output", str(tmp_path / "out"), *paths]
    assert_refused(CliRunner().invoke(app, command), tmp_path / "out", "temperature = 0")
    result = CliRunner().invoke(app, [*command, "--distillation.temperature", "1", "--training.max_steps", "2"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "model-best").exists()


def test_config_without_a_teacher_is_refused(student, corpus, tmp_path):
    paths = ["--paths.train", str(corpus / "train.spacy"), "--paths.dev", str(corpus / "dev.spacy")]
    command = ["distil", "train", str(student), "--output", str(tmp_path / "out"), *paths]
    assert_refused(CliRunner().invoke(app, command), tmp_path / "out", "names no teacher")
