"""What a search writes of its trials."""

from __future__ import annotations

import json
import struct
import sys

import pytest

from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.search.plot import import_pyplot, write_plot
from spacy_distil.compression.search.report import Outcome, describe_outcome, make_table, to_html, write_report
from spacy_distil.compression.search.settings import Limits
from spacy_distil.compression.search.shapes import Shape
from tests.compression.search.trials import WHOLE, make_trial
from tests.evaluation.test_page import MACHINE, Page, browse, needs_browser, share_of_edges

HALF = make_trial("3-layers", speedup=2.0, disk=40_000_000, drop=0.5)
SLIM = make_trial("3-layers-50", shape=Shape(3, 0.5), speedup=4.0, disk=20_000_000, drop=2.0)
BAD = make_trial("2-layers", shape=Shape(2), speedup=1.5, disk=50_000_000, drop=9.0)
OUTCOME = Outcome([WHOLE, SLIM, BAD, HALF], Limits(speedup=1.8, max_drop=3.0))


def test_the_table_has_every_trial_and_marks_the_chosen_and_the_front():
    header, *rows = make_table(OUTCOME)
    assert [row[0] for row in rows] == ["whole +", "2-layers", "3-layers +", "3-layers-50 *"]
    assert dict(zip(header, rows[-1], strict=True)) == {
        "": "3-layers-50 *",
        "layers": "3",
        "compute": "50 %",
        "precision": "auto",
        "parameters": "10.0 M",
        "disk": "20.0 MB",
        "words per second": "4,000 (4.00x)",
        "latency": "4.0 ms",
        "score": "88.0",
        "drop": "2.0",
    }


def test_it_says_what_was_chosen_or_what_was_nearest():
    assert describe_outcome(OUTCOME) == "Inside the limits: 3-layers-50, 4.00x the speed, 20.0 MB, 2.0 points lost."
    missed = Outcome(OUTCOME.trials, Limits(speedup=3.0, max_drop=1.0))
    assert missed.chosen is None
    assert describe_outcome(missed) == (
        "No pipeline is inside the limits. Nearest: 3-layers-50, 4.00x the speed, 20.0 MB, 2.0 points lost; "
        "3-layers, 2.00x the speed, 40.0 MB, 0.5 points lost."
    )
    assert describe_outcome(Outcome([WHOLE], Limits(speedup=99))).endswith("Nearest: nothing was tried.")
    assert describe_outcome(Outcome(OUTCOME.trials, Limits())) == "Pipelines made: 3."


def test_a_recipe_ends_with_its_last_step():
    outcome = Outcome(OUTCOME.trials, Limits(), recipe="3-layers-50")
    assert outcome.chosen is SLIM
    assert describe_outcome(outcome) == "Made: 3-layers-50, 4.00x the speed, 20.0 MB, 2.0 points lost."


def test_the_whole_pipeline_is_no_answer():
    assert Outcome([WHOLE, BAD], Limits(max_drop=1.0)).chosen is None


def test_the_reports(tmp_path):
    write_report(OUTCOME, tmp_path, title="A <search>")
    assert {path.name for path in tmp_path.iterdir()} == {"report.md", "report.html", "report.json", "pareto.png"}
    about = json.loads((tmp_path / "report.json").read_text(encoding="utf8"))
    assert about["chosen"] == "3-layers-50"
    assert [trial["name"] for trial in about["trials"]] == ["whole", "3-layers-50", "2-layers", "3-layers"]
    assert about["trials"][1]["shape"] == {"layers": 3, "compute": 0.5}
    text = (tmp_path / "report.md").read_text(encoding="utf8")
    assert "| 3-layers-50 * | 3 | 50 % | auto | 10.0 M | 20.0 MB | 4,000 (4.00x) | 4.0 ms | 88.0 | 2.0 |" in text
    assert "Limits: 1.8 times the words per second, 3 points of the score." in text
    picture = (tmp_path / "pareto.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", picture[16:24])
    assert width > height > 500


def test_the_page_has_both_charts_and_escapes_names():
    page = Page(to_html(OUTCOME, MACHINE, "A <search>"))
    assert ("h1", "A <search>") in page.texts
    circles = [attributes for tag, attributes in page.elements if tag == "circle"]
    assert len(circles) == 2 * len(OUTCOME.trials)
    for trial in (WHOLE, SLIM, HALF):
        assert any(text == trial.name for _, text in page.texts)


@needs_browser
def test_a_browser_draws_the_page_and_has_nothing_to_complain_of(tmp_path):
    html = to_html(OUTCOME, MACHINE, "A search")
    result = browse(html, tmp_path, f"--screenshot={tmp_path / 'page.png'}", "--window-size=1200,1600")
    assert "CONSOLE" not in result.stderr
    drawn = share_of_edges(tmp_path / "page.png")
    hidden = html.replace("<body>", "<body style='display: none'>")
    browse(hidden, tmp_path, f"--screenshot={tmp_path / 'page.png'}", "--window-size=1200,1600")
    assert drawn > 10 * share_of_edges(tmp_path / "page.png")


def test_a_plot_without_limits_and_without_a_chosen_one(tmp_path):
    write_plot([WHOLE, BAD], Limits(), None, tmp_path / "plain.png")
    assert (tmp_path / "plain.png").stat().st_size > 5000


def test_without_matplotlib_it_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(CompressionError, match=r"pip install 'spacy-distil\[plot\]'"):
        import_pyplot()
