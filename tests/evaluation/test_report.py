"""The mathematics and the writing of reports, from figures made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import srsly

from spacy_distil.evaluation.compare import (
    CompareError,
    Comparison,
    Cost,
    Entry,
    Source,
    common_scores,
    deviation,
    group_by_name,
    kept,
    summarize,
)
from spacy_distil.evaluation.report import make_table, write_report


@pytest.fixture
def comparison() -> Comparison:
    teacher = Entry("teacher", ["t"], {"ents_f": [0.8], "tag_acc": [0.5]}, Cost(20_000_000, 80_000_000, 1000.0, 0.020))
    student = Entry(
        "student", ["a", "b", "c"], {"ents_f": [0.7, 0.8, 0.6]}, Cost(10_000_000, 40_000_000, 2000.0, 0.010)
    )
    return Comparison("test.spacy", 10, 500, ["ents_f", "tag_acc"], teacher, [student])


def test_kept_is_the_mean_in_percent_of_the_teachers() -> None:
    assert kept([0.7, 0.8, 0.6], [0.8]) == pytest.approx(87.5)
    assert kept([0.9], [0.8]) == pytest.approx(112.5)
    assert kept([0.5], [0.0]) is None


def test_deviation_is_that_of_a_sample() -> None:
    assert deviation([0.7, 0.8, 0.6]) == pytest.approx(0.1)
    assert deviation([0.7]) is None


def test_summary_by_hand(comparison: Comparison) -> None:
    summary = summarize(comparison.students[0], comparison.teacher, comparison.scores)
    assert summary == {
        "ents_f": {
            "runs": [0.7, 0.8, 0.6],
            "mean": pytest.approx(0.7),
            "deviation": pytest.approx(0.1),
            "kept": pytest.approx(87.5),
        }
    }


def test_table_by_hand(comparison: Comparison) -> None:
    assert make_table(comparison) == [
        ["", "teacher", "student (3 runs)"],
        ["ents_f", "80.0", "70.0 ± 10.0 (87.5 %)"],
        ["tag_acc", "50.0", "-"],
        ["parameters", "20.0 M", "10.0 M"],
        ["size on disk", "80.0 MB", "40.0 MB"],
        ["words per second", "1,000", "2,000 (2.00x)"],
        ["latency of a text", "20.0 ms", "10.0 ms (0.50x)"],
    ]


def test_report_is_written_whole_and_replaces_an_older_one(comparison: Comparison, tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("old")
    paths = write_report(comparison, tmp_path / ".", title="Reviews")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "report.md"]
    text = paths[0].read_text(encoding="utf8")
    assert text.startswith("# Reviews\n")
    assert "| ents_f | 80.0 | 70.0 ± 10.0 (87.5 %) |" in text
    report = srsly.read_json(paths[1])
    assert report["students"][0]["scores"]["ents_f"]["kept"] == pytest.approx(87.5)
    assert report["teacher"]["paths"] == ["t"]


def test_a_failed_write_leaves_the_older_report(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.md").write_text("old")
    original = Path.write_text

    def full_disk(path: Path, text: str, **kwargs: str) -> int:
        if path.name.startswith(".report.json"):
            raise OSError("No space left on device")
        return original(path, text, **kwargs)

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_report(comparison, tmp_path, title="Reviews")
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]
    assert (tmp_path / "report.md").read_text() == "old"


def test_students_of_one_name_are_runs_of_one_kind() -> None:
    sources = [Source("a", "1"), Source("b", "2"), Source("a", "3")]
    assert group_by_name(sources) == [("a", [sources[0], sources[2]]), ("b", [sources[1]])]


def test_common_scores_are_those_of_the_teacher_and_any_student() -> None:
    teacher, students = [{"ents_f": 0.8, "tag_acc": 0.9}], [{"ents_f": 0.7}, {"cats_score": 0.5}]
    assert common_scores(["cats_score", "ents_f", "tag_acc"], teacher, students) == ["ents_f"]
    with pytest.raises(CompareError, match="no score in common"):
        common_scores(["tag_acc"], teacher, students)
