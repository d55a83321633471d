"""`python -m spacy distil bench`, on a tiny encoder: what it reports hangs together. Nothing is claimed of speeds."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from spacy.cli._util import app
from typer.testing import CliRunner

import spacy_distil.cli  # noqa: F401 - adds the commands to spaCy's
from spacy_distil.evaluation import bench
from spacy_distil.evaluation.bench import QUICK, Contender, Row, Sizes, add_ratios, choose_texts

TEXT = (
    "The film was great. I watched it in London, twice! Was the plot a naive story? Never mind: the café next door "
    "was wonderful, and so were the movies that they played at the end of the day."
)
SPEED = "words per second"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(app, ["distil", "bench", *map(str, args)])


@pytest.fixture(scope="module")
def report(distilbert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("bench")
    texts, output = folder / "texts.txt", folder / "results" / "bench.json"
    texts.write_text(f"{TEXT}\n\n{TEXT} {TEXT}\n", encoding="utf8")
    arguments = [texts, "--name", distilbert_folder, "--output", output, "--quick", "--memory-docs", "20"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "QUICK", Sizes(rounds=2, paragraphs=3, sentences=5, calls=2, updates=1, long_doc=200))
        result = CliRunner().invoke(app, ["distil", "bench", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert [path.name for path in output.parent.iterdir()] == ["bench.json"]
    found = json.loads(output.read_text())
    found["output"] = result.output
    return found


def rows(report: dict[str, Any], measure: str) -> dict[tuple[str, str, bool], dict[str, Any]]:
    return {(r["system"], r["precision"], r["head"]): r for r in report["rows"] if r["measure"] == measure}


def test_every_contender_is_measured(report: dict[str, Any]) -> None:
    precisions = ["float32"] if report["machine"]["auto"] == "float32" else ["float32", "auto"]
    with_head = {("distilbert", p, True) for p in precisions} | {("transformer", "float32", True)}
    bare = {(system, p, False) for system in ("torch", "packed") for p in precisions}
    alone = {(system, precision, False) for system, precision, _ in with_head}
    for measure in ("sentences", "paragraphs"):
        assert set(rows(report, measure)) == with_head | alone | bare
        assert set(rows(report, f"{measure}_overhead")) == {("distilbert", p, False) for p in precisions}
    assert set(rows(report, "latency")) == with_head | bare
    for measure in ("fine_tuning", "long_doc", "long_doc_against_paragraphs", "long_doc_peak_memory", "loaded_memory"):
        assert set(rows(report, measure)) == with_head


def test_values_are_medians_and_ratios_are_of_values(report: dict[str, Any]) -> None:
    for row in report["rows"]:
        assert row["value"] == pytest.approx(median(row["rounds"]))
        assert row["unit"] == "fraction" or row["value"] > 0
    for measure in ("sentences", "paragraphs", "latency", "fine_tuning"):
        found = rows(report, measure)
        assert all(len(row["rounds"]) == 2 for row in found.values())
        for (system, precision, head), row in found.items():
            references = {
                "transformer": ("transformer", "float32", head),
                "torch": ("torch", precision, False),
                "packed": ("packed", precision, False),
            }
            expected = {
                name: row["value"] / found[reference]["value"]
                for name, reference in references.items()
                if reference in found and reference != (system, precision, head)
            }
            assert row["ratios"] == pytest.approx(expected)


def test_overhead_is_time_on_top_of_the_packed_encoders(report: dict[str, Any]) -> None:
    speeds = rows(report, "paragraphs")
    own, bare = speeds["distilbert", "float32", False], speeds["packed", "float32", False]
    expected = [b / o - 1.0 for b, o in zip(bare["rounds"], own["rounds"], strict=True)]
    assert rows(report, "paragraphs_overhead")["distilbert", "float32", False]["rounds"] == pytest.approx(expected)


def test_stream_follows_the_memory_of_all_docs(report: dict[str, Any]) -> None:
    assert report["stream"]["docs"] == list(range(2, 21, 2))
    assert len(report["stream"]["memory"]) == 10
    assert all(memory > 10_000_000 for memory in report["stream"]["memory"])


def test_report_says_what_it_was_measured_on(report: dict[str, Any]) -> None:
    machine, settings = report["machine"], report["settings"]
    assert machine["threads"] >= 1
    assert machine["versions"]["spacy"].startswith("3.8")
    assert settings["shape"] == {"model_type": "distilbert", "n_layers": 4, "dim": 32}
    assert settings["texts"] == "texts.txt"
    assert settings["long_doc"] == 200 <= report["words"]["long"]
    assert report["words"]["paragraphs"] > report["words"]["sentences"] > report["words"]["short"]


def test_table_shows_every_measure(report: dict[str, Any]) -> None:
    for title in ("Sentences", "Paragraphs", "One text of 14 words", "Fine-tuning", "peak memory", "dropped"):
        assert title in report["output"]


def test_ratios_compare_like_with_like() -> None:
    speeds = {
        Contender("distilbert", "auto", head=True): 80.0,
        Contender("distilbert", "auto"): 100.0,
        Contender("transformer", head=True): 10.0,
        Contender("transformer"): 20.0,
        Contender("torch", "auto"): 50.0,
        Contender("packed", "auto"): 200.0,
    }
    found = [Row("paragraphs", SPEED, contender, [speed]) for contender, speed in speeds.items()]
    add_ratios(found)
    assert found[0].ratios == {"transformer": 8.0, "torch": 1.6, "packed": 0.4}
    assert found[1].ratios == {"transformer": 5.0, "torch": 2.0, "packed": 0.5}
    assert found[2].ratios == {}
    assert found[5].ratios == {"transformer": 10.0, "torch": 4.0}


def test_texts_are_taken_from_all_of_a_corpus_and_a_small_one_is_repeated() -> None:
    corpus = [f"Paragraph {i} stands here. It has a second sentence." for i in range(100)]
    texts = choose_texts(corpus, Sizes(paragraphs=10, sentences=20, long_doc=500))
    assert texts.paragraphs == corpus[::10]
    assert len(texts.sentences) == 20
    assert texts.short == "Paragraph 0 stands here. It has a second sentence. Paragraph 10 stands"
    repeated = choose_texts(["Short."], QUICK)
    assert repeated.paragraphs == ["Short."] * QUICK.paragraphs
    assert repeated.short == " ".join(["Short."] * 7)


def test_without_spacy_transformers_its_rows_are_left_out(
    run: Callable[..., Any], distilbert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts.jsonl").write_text(json.dumps({"text": TEXT}) + "\n", encoding="utf8")
    monkeypatch.setitem(sys.modules, "spacy_transformers", None)
    monkeypatch.setattr(bench, "QUICK", Sizes(rounds=1, paragraphs=2, sentences=2, calls=1, long_doc=20))
    monkeypatch.setattr(bench, "measure_memory", lambda *args, **kwargs: ([], None))
    result = run("texts.jsonl", "--name", distilbert_folder, "--quick", "--output", "bench.json")
    assert result.exit_code == 0, result.output
    assert "spacy-transformers are left out" in result.output
    report = json.loads((tmp_path / "bench.json").read_text())
    assert {row["system"] for row in report["rows"]} == {"distilbert", "torch", "packed"}
    assert report["stream"] is None


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("none.txt", None, "no file"),
        ("empty.txt", b" \n\n", "no text"),
        ("latin.txt", "naïve".encode("latin1"), "not in UTF-8"),
        ("one.txt", b"word " * 30_000, "one paragraph on a line"),
        ("bad.jsonl", b'{"text": "fine"}\n{"txt": 1}', "line 2"),
        ("broken.jsonl", b"{", "line 1"),
    ],
)
def test_texts_that_are_no_use_are_refused(
    run: Callable[..., Any], tmp_path: Path, name: str, content: bytes | None, complaint: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = run(name)
    assert result.exit_code == 1
    assert complaint in " ".join(result.output.split())


def test_without_texts_and_without_the_shipped_corpus_it_says_what_to_give(run: Callable[..., Any]) -> None:
    result = run()
    assert result.exit_code == 1
    assert "one paragraph a line" in " ".join(result.output.split())


def test_wrong_checkpoint_and_output_are_refused(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text(TEXT, encoding="utf8")
    result = run("texts.txt", "--name", "./missing")
    assert result.exit_code == 1
    assert "There is no folder './missing'" in " ".join(result.output.split())
    result = run("texts.txt", "--output", tmp_path)
    assert result.exit_code == 1
    assert "is a folder" in " ".join(result.output.split())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text(TEXT, encoding="utf8")
    result = run("texts.txt", "--gpu-id", "0")
    assert result.exit_code == 1
    assert "GPU 0 can't be used" in result.output
