"""The mathematics and the writing of reports, from figures made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spacy_distil.evaluation.compare import Run, choose_scores, summarize, summarize_agreement
from spacy_distil.evaluation.comparison import Score
from spacy_distil.evaluation.report import write_report
from spacy_distil.evaluation.sources import CompareError, Source, group_by_name
from spacy_distil.evaluation.tables import make_label_tables, make_table
from tests.evaluation.comparisons import ATTACK, make_comparison, without_annotation


def values(corpus: float, draws: float | None = None) -> np.ndarray:
    return np.array([corpus, *[corpus if draws is None else draws] * 100])


def test_kept_is_the_mean_in_percent_of_the_teachers() -> None:
    runs = [{"ents_f": values(0.7)}, {"ents_f": values(0.8)}, {"ents_f": values(0.6)}]
    (score,) = summarize(runs, {"ents_f": values(0.8, draws=0.4)}).values()
    assert score.runs == [0.7, 0.8, 0.6]
    assert score.mean == pytest.approx(0.7)
    assert score.deviation == pytest.approx(0.1)
    assert score.kept == pytest.approx(87.5)
    assert score.kept_interval is not None
    assert 150 <= score.kept_interval[0] < 175 < score.kept_interval[1] <= 200


def test_a_teacher_with_nothing_keeps_no_share_and_a_single_run_has_no_deviation() -> None:
    score = summarize([{"ents_f": values(0.7)}], {"ents_f": values(0.0)})["ents_f"]
    assert (score.kept, score.kept_interval, score.deviation) == (None, None, None)
    assert score.interval == (0.7, 0.7)


def test_a_figure_that_the_corpus_does_not_define_is_left_out() -> None:
    assert summarize([{"ents_f": values(np.nan)}]) == {}


def test_agreement_is_that_of_all_runs() -> None:
    runs = [
        Run({}, {}, {}, {"ner": "entities"}, {"ner": values(share)}, {"ner": values(share / 2)}) for share in (0.6, 0.8)
    ]
    agreed = summarize_agreement(runs)["ner"]
    assert agreed.unit == "entities"
    assert agreed.statements.mean == pytest.approx(0.7)
    assert agreed.texts.mean == pytest.approx(0.35)


def test_table_by_hand() -> None:
    table = make_table(make_comparison(), intervals=False)
    assert [row for row in table if not row[0].startswith("agreement")] == [
        ["", "teacher", "student (3 runs)"],
        ["ents_f", "80.0", "70.0 ± 10.0 (87.5 %)"],
        ["tag_acc", "50.0", "-"],
        ["overall", "70.0", "-"],
        ["parameters", "20.0 M", "10.0 M"],
        ["size on disk", "80.0 MB", "40.0 MB"],
        ["words per second", "1,000", "2,000 (2.00x)"],
        ["words per second, encoder alone", "1,500", "3,000 (2.00x)"],
        ["latency of a text", "20.0 ms", "10.0 ms (0.50x)"],
        ["peak memory above the model's", "50 MB", "25 MB (0.50x)"],
    ]
    assert ["agreement: ner (tokens)", "-", "80.0 ± 10.0"] in table


def test_table_with_intervals() -> None:
    row = make_table(make_comparison(), intervals=True)[1]
    assert row == ["ents_f", "80.0 [75.0, 85.0]", "70.0 ± 10.0 [65.0, 75.0] (87.5 % [50.0, 99.0])"]


def test_tables_by_label_hold_those_of_the_teacher_and_a_student() -> None:
    tables = make_label_tables(make_comparison(), intervals=False)
    assert tables == {
        "ents_per_type": [
            ["", "in the corpus", "teacher", "student"],
            [ATTACK, "7", "90.0", "90.0 ± 0.0 (100.0 %)"],
        ],
        "cats_auc_per_type": [
            ["", "in the corpus", "teacher", "student"],
            ["GOOD", "5", "95.0", "90.0 ± 0.0 (94.7 %)"],
        ],
    }


def test_table_without_annotation_is_of_agreement() -> None:
    table = make_table(without_annotation(), intervals=False)
    assert table[:2] == [["", "teacher", "student"], ["agreement: ner (entities)", "-", "90.0"]]
    assert table[-1] == ["peak memory above the model's", "-", "-"]


def test_report_is_written_whole_and_replaces_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("old")
    paths = write_report(make_comparison(), tmp_path / ".", title="Reviews")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json", "report.md"]
    text = paths[0].read_text(encoding="utf8")
    assert text.startswith("# Reviews\n")
    assert "| ents_f | 80.0 [75.0, 85.0] | 70.0 ± 10.0 [65.0, 75.0] (87.5 % [50.0, 99.0]) |" in text
    assert "<script" not in text
    assert '&lt;/script>&"\\| | 7 |' in text


def test_json_has_everything(tmp_path: Path) -> None:
    write_report(make_comparison(), tmp_path, title="Reviews")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf8"))
    assert report["intervals"] == {"level": 0.95, "resamples": 1000, "seed": 0}
    assert report["teacher"]["paths"] == ["t"]
    assert report["teacher"]["labels"]["ents_per_type"]["GPE"]["p"]["mean"] == 0.7
    assert report["teacher"]["labels"]["cats_auc_per_type"]["GOOD"]["support"] == 5
    (student,) = report["students"]
    assert student["scores"]["ents_f"] == {
        "runs": [0.7, 0.8, 0.6],
        "mean": pytest.approx(0.7),
        "deviation": pytest.approx(0.1),
        "interval": [pytest.approx(0.65), pytest.approx(0.75)],
        "kept": 87.5,
        "kept_interval": [50.0, 99.0],
        "draws": 1000,
    }
    assert student["agreement"]["ner"]["statements"]["mean"] == pytest.approx(0.8)
    assert student["words_per_second_by_round"] == [2000.0] * 3
    assert student["peak_memory"] == 25_000_000
    assert student["training"][0]["scores"]["ents_f"] == [0.4, None]
    worst = student["disagreements"]["tagger"][0]
    assert (worst["index"], worst["size"]) == (3, 2)
    assert worst["differences"]["teacher"] == [[0, 4, ATTACK]]  # not the token on which they agree
    assert worst["differences"]["student"] == [[0, 4, "NNP"]]


def test_a_failed_write_leaves_the_older_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report.md").write_text("old")
    original = Path.write_text

    def full_disk(path: Path, text: str, **kwargs: str) -> int:
        if path.name.startswith(".report.json"):
            raise OSError("No space left on device")
        return original(path, text, **kwargs)

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_report(make_comparison(), tmp_path, title="Reviews")
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]
    assert (tmp_path / "report.md").read_text() == "old"


def test_students_of_one_name_are_runs_of_one_kind() -> None:
    sources = [Source("a", "1"), Source("b", "2"), Source("a", "3")]
    assert group_by_name(sources) == {"a": [sources[0], sources[2]], "b": [sources[1]]}


def run(*names: str, weights: dict[str, float] | None = None, unit: str = "") -> Run:
    return Run({(name,): values(0.5) for name in names}, {}, weights or {}, {"ner": unit} if unit else {})


def test_scores_that_count_are_those_of_the_teacher_and_any_student() -> None:
    teacher = run("ents_f", "tag_acc", weights={"cats_score": 1.0, "ents_f": 0.3})
    students = [run("ents_f", weights={"ents_f": 1.0, "tag_acc": 1.0}), run("cats_score")]
    assert choose_scores(teacher, students) == {"ents_f": 0.3}
    with pytest.raises(CompareError, match="no score in common"):
        choose_scores(teacher, [run("cats_score")])
    assert choose_scores(teacher, [run(unit="entities")]) == {}


def test_a_score_says_its_mean_and_spread() -> None:
    assert Score([0.7, 0.8, 0.6]).deviation == pytest.approx(0.1)
    assert Score([0.7]).deviation is None
