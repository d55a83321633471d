"""Places of marks by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from spacy_distil.evaluation.charts import HEIGHT, LINE, Point, make_axis, make_curves, make_scatter


@pytest.mark.parametrize(
    ("values", "settings", "ticks"),
    [
        ([0.0, 100.0], {"most": 100}, ["0", "20", "40", "60", "80", "100"]),
        ([97.1, 98.4], {}, ["97.0", "97.5", "98.0", "98.5"]),
        ([1_000.0, 24_000.0], {"from_zero": True}, ["0", "10,000", "20,000"]),
        ([5.0], {}, ["4.6", "4.8", "5.0", "5.2", "5.4"]),
        ([math.nan], {}, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
    ],
)
def test_ticks_are_round_and_all_values_have_room(
    values: list[float], settings: dict[str, float], ticks: list[str]
) -> None:
    axis = make_axis(values, **settings)  # type: ignore[arg-type]
    assert [text for _, text in axis.ticks] == ticks
    assert all(0 <= axis.share(value) <= 1 for value in values if math.isfinite(value))


def test_a_scatter_has_its_speed_from_zero_and_up_is_better() -> None:
    slow = Point("teacher", 0, (1000, 900, 1100), (90, 85, 95))
    fast = Point("student", 1, (2000, 2000, 2000), (80, 75, 85))
    best, worst = make_scatter([fast, slow]).marks
    assert (best.point, worst.point) == (slow, fast)
    assert worst.x[0] == pytest.approx(2 * best.x[0], abs=0.02)
    assert best.x[1] < best.x[0] < best.x[2] <= 100
    assert 0 <= best.y[2] < best.y[0] < best.y[1] < worst.y[1] <= HEIGHT
    assert (best.is_left, worst.is_left) == (False, True)


def test_names_of_points_that_are_close_do_not_cover_each_other() -> None:
    points = [Point(f"student {i}", i, (1000, 1000, 1000), (80 - i / 10, 70, 90)) for i in range(3)]
    heights = [mark.name_y for mark in make_scatter(points).marks]
    assert all(below - above >= LINE for above, below in pairwise(heights))
    apart = [Point("a", 0, (100, 100, 100), (80, 70, 90)), Point("b", 1, (1000, 1000, 1000), (80, 70, 90))]
    assert len({mark.name_y for mark in make_scatter(apart).marks}) == 1


def test_a_curve_leaves_out_what_is_no_number() -> None:
    curves = make_curves([(1, [0, 10, 20], [0.0, math.nan, 1.0])])
    ((series, points),) = curves.lines
    assert series == 1
    first, last = ([float(number) for number in point.split(",")] for point in points.split())
    assert first[0] == 0
    assert 0.9 < last[0] <= 1
    assert 0 <= last[1] < first[1] <= 1


def test_a_loss_is_on_a_logarithmic_scale() -> None:
    curves = make_curves([(1, [0, 10, 20, 30], [10.0, 1_000.0, 100_000.0, 0.0])], logarithmic=True)
    heights = [float(point.split(",")[1]) for point in curves.lines[0][1].split()]
    assert len(heights) == 3
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=2e-4)
    assert [text for _, text in curves.y_ticks] == ["10", "100", "1,000", "10,000", "100,000"]
