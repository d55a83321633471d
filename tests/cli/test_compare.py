"""`python -m spacy distil compare`, on pipelines that are made in a second."""

from __future__ import annotations

import os
import shutil
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
import spacy
import srsly
from spacy.cli._util import app
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from typer.testing import CliRunner

from spacy_distil.cli.compare import parse_source
from spacy_distil.evaluation import costs, measure, report

TEXTS = {"good fine good": 1.0, "bad poor bad": 0.0, "fine and good": 1.0, "poor and bad": 0.0}


def make_pipeline(folder: Path, *, steps: int) -> str:
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe(
        "textcat",
        config={
            "model": {
                "@architectures": "spacy.TextCatBOW.v3",
                "exclusive_classes": True,
                "ngram_size": 1,
                "no_output_layer": False,
                "length": 64,
            }
        },
    )
    examples = [Example(nlp.make_doc(doc.text), doc) for doc in make_docs(nlp)]
    optimizer = nlp.initialize(lambda: examples)
    for _ in range(steps):
        nlp.update(examples, sgd=optimizer)
    assert pipe.labels == ("POS", "NEG")
    nlp.config["training"]["score_weights"] = {"cats_score": 1.0, "cats_macro_p": 0.0}
    folder.parent.mkdir(exist_ok=True)
    nlp.to_disk(folder)
    return str(folder)


def make_docs(nlp: Language) -> list[Doc]:
    docs = []
    for text, positive in TEXTS.items():
        docs.append(nlp.make_doc(text))
        docs[-1].cats = {"POS": positive, "NEG": 1.0 - positive}
    return docs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained teacher, two students, and a corpus."""
    folder = tmp_path_factory.mktemp("compare")
    for name, steps in (("teacher", 20), ("student-1", 20), ("student-2", 20), ("untrained", 0)):
        make_pipeline(folder / name / "model-best", steps=steps)
    DocBin(docs=make_docs(spacy.blank("en"))).to_disk(folder / "test.spacy")
    DocBin(docs=[]).to_disk(folder / "empty.spacy")
    spacy.blank("en").to_disk(folder / "blank")
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round, in this process: a fresh one takes seconds to start."""
    monkeypatch.setattr(costs, "ROUNDS", 1)
    monkeypatch.setattr(costs, "LATENCY_CALLS", 1)
    monkeypatch.setattr(measure, "in_child", lambda function, *args: function(*args))


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["distil", "compare", *map(str, arguments)])
    return result.exit_code, " ".join(result.output.split())


def test_compare_writes_table_and_reports(folder: Path, tmp_path: Path) -> None:
    code, output = run(
        folder / "teacher/model-best",
        f"distilled={folder / 'student-1/model-best'}",
        f"distilled={folder / 'student-2/model-best'}",
        folder / "untrained/model-best",
        folder / "test.spacy",
        *("--output", tmp_path / "new", "--title", "Moods"),
    )
    assert code == 0, output
    assert "distilled (2 runs)" in output
    assert "agreement: textcat (texts)" in output
    assert "POS" not in output  # no labels without --labels
    report = srsly.read_json(tmp_path / "new" / "report.json")
    assert report["weights"] == {"cats_score": 1.0}
    assert report["teacher"]["name"] == "teacher"
    assert report["teacher"]["scores"]["cats_score"]["mean"] == 1.0
    assert report["teacher"]["overall"]["mean"] == 1.0
    distilled, untrained = report["students"]
    kept = distilled["scores"]["cats_score"]
    assert (kept["runs"], kept["kept"], kept["kept_interval"]) == ([1.0, 1.0], 100.0, [100.0, 100.0])
    assert distilled["agreement"]["textcat"]["texts"]["mean"] == 1.0
    assert distilled["disagreements"] == {"textcat": []}
    assert untrained["name"] == "untrained"
    assert untrained["scores"]["cats_score"]["kept"] < 100
    assert untrained["labels"]["cats_f_per_type"]["POS"]["support"] == 2
    assert untrained["disagreements"]["textcat"][0]["size"] == 1
    assert report["corpus"]["docs"] == 4
    assert report["corpus"]["words"] == 12
    assert report["intervals"]["resamples"] == 1000
    for entry in (report["teacher"], distilled, untrained):
        assert entry["parameters"] > 0
        assert entry["disk"] > 0
        assert entry["words_per_second"] > 0
        assert entry["latency"] > 0
        assert entry["peak_memory"] >= 0
    assert (tmp_path / "new" / "report.md").read_text(encoding="utf8").startswith("# Moods\n")
    assert "<title>Moods</title>" in (tmp_path / "new" / "report.html").read_text(encoding="utf8")


def test_labels_are_printed_on_request(folder: Path, tmp_path: Path) -> None:
    pipelines = folder / "teacher/model-best", folder / "student-1/model-best"
    code, output = run(*pipelines, folder / "test.spacy", "--output", tmp_path, "--labels")
    assert code == 0, output
    assert "cats_f_per_type" in output
    assert "POS 2 100.0 100.0 (100.0 %)" in output


def test_without_annotation_agreement_is_compared(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    pipelines = folder / "teacher/model-best", folder / "untrained/model-best"
    code, output = run(*pipelines, tmp_path / "texts.txt", "--output", tmp_path)
    assert code == 0, output
    report = srsly.read_json(tmp_path / "report.json")
    assert report["weights"] == {}
    assert not [name for name in report["teacher"]["scores"] if not name.startswith("token_")]
    assert report["students"][0]["agreement"]["textcat"]["statements"]["mean"] < 1
    assert "without gold labels" in (tmp_path / "report.html").read_text(encoding="utf8")


def test_the_log_of_a_training_is_shown_and_a_damaged_one_is_an_error_before_any_work(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "student-1", tmp_path / "logged")
    line = {"step": 5, "epoch": 0, "score": 0.5, "scores": {"cats_score": 0.5}, "losses": {"textcat": None}}
    srsly.write_jsonl(tmp_path / "logged" / "log.jsonl", [line, {**line, "step": 10}])
    arguments = folder / "teacher/model-best", tmp_path / "logged/model-best", folder / "test.spacy"
    code, output = run(*arguments, "--output", tmp_path / "report")
    assert code == 0, output
    (student,) = srsly.read_json(tmp_path / "report" / "report.json")["students"]
    assert student["training"] == [
        {
            "steps": [5, 10],
            "score": [0.5, 0.5],
            "scores": {"cats_score": [0.5, 0.5]},
            "losses": {"textcat": [None, None]},
        }
    ]
    (tmp_path / "logged" / "log.jsonl").write_text('{"step": 5, "ep')
    code, output = run(*arguments, "--output", tmp_path / "report")
    assert code == 1
    assert "log.jsonl' can't be read" in output
    assert "Scoring" not in output


def test_the_process_that_measures_memory_has_the_code_of_the_pipeline(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "code.py").write_text("import os\nos.environ['CODE_OF_THE_PIPELINE'] = 'ran'")
    monkeypatch.setenv("CODE_OF_THE_PIPELINE", "")
    setting = costs.Setting(code=tmp_path / "code.py")
    assert costs.run_memory(folder / "teacher/model-best", ["good fine"] * 10, "good", setting) >= 0
    assert os.environ["CODE_OF_THE_PIPELINE"] == "ran"


def test_a_killed_process_leaves_a_gap(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def kill(function: object, *args: object) -> None:
        raise BrokenProcessPool

    monkeypatch.setattr(measure, "in_child", kill)
    pipelines = folder / "teacher/model-best", folder / "student-1/model-best"
    code, output = run(*pipelines, folder / "test.spacy", "--output", tmp_path)
    assert code == 0, output
    assert "Too little memory?" in output
    assert srsly.read_json(tmp_path / "report.json")["teacher"]["peak_memory"] is None


@pytest.mark.parametrize(
    ("teacher", "student", "corpus", "message"),
    [
        ("nowhere", "blank", "test.spacy", "There is no pipeline"),
        ("teacher", "blank", "test.spacy", "does not load"),
        ("teacher/model-best", "blank", "test.spacy", "no score in common"),
        ("teacher/model-best", "student-1/model-best", "empty.spacy", "There is no text"),
        ("teacher/model-best", "student-1/model-best", "nowhere.spacy", "There is no file or folder"),
        ("teacher/model-best", "student-1/model-best", "broken.spacy", "is damaged"),
        ("teacher/model-best", "student-1/model-best", "blank/meta.json", "is no file of texts"),
        ("teacher/model-best", "teacher/model-best", "test.spacy", "has the teacher's name"),
    ],
)
def test_bad_input_is_a_clear_error(
    folder: Path, tmp_path: Path, teacher: str, student: str, corpus: str, message: str
) -> None:
    (folder / "broken.spacy").write_bytes((folder / "test.spacy").read_bytes()[:20])
    code, output = run(folder / teacher, folder / student, folder / corpus, "--output", tmp_path)
    assert code == 1
    assert message in output
    assert "Traceback" not in output
    assert not list(tmp_path.iterdir())


def test_a_pipeline_that_is_not_there_is_an_error_before_any_work(folder: Path, tmp_path: Path) -> None:
    pipelines = folder / "teacher/model-best", folder / "student-1/model-best", "nowhere=nothing/model-best"
    code, output = run(*pipelines, folder / "test.spacy", "--output", tmp_path / "a" / "report")
    assert code == 1
    assert "There is no pipeline 'nothing/model-best'" in output
    assert "Scoring" not in output
    assert not list(tmp_path.iterdir())


def test_output_that_is_a_file_is_an_error_before_any_work(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, output = run("nowhere", "nowhere", folder / "test.spacy", "--output", tmp_path / "file")
    assert code == 1
    assert "can't be written" in output


def test_full_disk_is_an_error_without_a_traceback(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "_write_all", full_disk)
    pipelines = folder / "teacher/model-best", folder / "student-1/model-best"
    code, output = run(*pipelines, folder / "test.spacy", "--output", tmp_path)
    assert code == 1
    assert "can't be written" in output
    assert "No space left on device. Make room" in output


def test_names_of_pipelines(tmp_path: Path) -> None:
    assert parse_source("training/student/model-best").name == "student"
    assert parse_source("en_core_web_sm").name == "en_core_web_sm"
    assert parse_source("small=training/student/model-best").path == "training/student/model-best"
    (tmp_path / "a=b").mkdir()
    assert parse_source(f"{tmp_path}/a=b").name == "a=b"
