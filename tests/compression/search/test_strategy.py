"""Which shapes a search trains, on formulas for what they cost and lose."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.search.settings import Limits, Settings
from spacy_distil.compression.search.shapes import WIDTHS, Shape
from spacy_distil.compression.search.strategy import find_widest, search
from spacy_distil.compression.search.trial import Cost, find_best
from tests.compression.search.trials import FormulaTries

DEPTHS = [6, 4, 3, 2]


@pytest.mark.parametrize("speedup", [1.0, 1.7, 2.0, 3.0, 7.5, 14.0])
def test_the_widest_is_the_largest_that_is_fast_enough(speedup):
    tries = FormulaTries()
    found = find_widest(tries, 3, WIDTHS, Limits(speedup=speedup))
    enough = [width for width in WIDTHS if 1.5 / (0.5 * width) >= 1.03 * speedup]
    assert found == enough[0]
    assert len(tries.measured) <= math.ceil(math.log2(len(WIDTHS) + 1))


def test_there_is_none_where_the_narrowest_is_too_slow():
    assert find_widest(FormulaTries(), 6, WIDTHS, Limits(speedup=1000)) is None


def test_without_a_limit_for_the_score_each_depth_is_trained_once_at_the_wanted_speed():
    tries = FormulaTries(flat=0.5)
    trials = search(tries, Settings(speedup=3.0, trials=20), DEPTHS)
    best = find_best(trials, Limits(speedup=3.0))
    assert best is not None
    assert best.cost.speedup >= 3.0
    assert best.shape.layers == 6  # flat shapes lose more here
    assert {shape.layers for shape in tries.trained} == set(DEPTHS)
    assert len(tries.trained) == len(set(tries.trained)) <= 7


def test_the_score_may_drop_so_it_goes_on_to_the_fastest_that_is_good_enough():
    limits = Limits(speedup=2.0, max_drop=5.0)
    tries = FormulaTries(flat=0.2)
    trials = search(tries, Settings(speedup=2.0, max_drop=5.0, trials=20), DEPTHS)
    best = find_best(trials, limits)
    assert best is not None
    # No other width of the same depth would have been both faster and good enough.
    for width in WIDTHS:
        shape = Shape(best.shape.layers, width)
        if tries.drop(shape) + 0.1 <= 5.0:
            assert width >= best.shape.compute


def test_a_drop_alone_is_a_target():
    tries = FormulaTries()
    trials = search(tries, Settings(max_drop=3.0, trials=20), DEPTHS)
    best = find_best(trials, Limits(max_drop=3.0))
    assert best is not None
    assert best.cost.speedup > 2.5
    assert best.drop <= 3.0


def test_the_smallest_is_wanted_where_only_the_size_is_limited():
    limits = Limits(size=15e6, max_drop=8.0)
    trials = search(FormulaTries(), Settings(size="15MB", max_drop=8.0, trials=20), DEPTHS)
    best = find_best(trials, limits)
    assert best is not None
    inside = [trial for trial in trials if trial.is_inside(limits)]
    assert best.cost.disk == min(trial.cost.disk for trial in inside)
    assert len({trial.shape.layers for trial in trials}) > 1


@pytest.mark.parametrize("most", [2, 3, 5])
def test_no_more_trainings_than_asked_for(most):
    tries = FormulaTries()
    search(tries, Settings(speedup=4.0, max_drop=9.0, trials=most), DEPTHS)
    assert 1 <= len(tries.trained) <= most


def test_the_most_balanced_shape_comes_first():
    tries = FormulaTries()
    search(tries, Settings(speedup=6.0, trials=2), DEPTHS)
    assert tries.trained == [Shape(3), Shape(3, 0.4)]


def test_one_that_turns_out_slower_than_timed_is_made_narrower():
    limits = Limits(speedup=3.0)
    tries = FormulaTries(slower=0.9)
    trials = search(tries, Settings(speedup=3.0, trials=20), [3])
    assert find_best(trials, limits) is not None
    assert len({trial.shape.compute for trial in trials} - {1.0}) == 1
    assert search(FormulaTries(slower=0.01), Settings(speedup=3.0, trials=4), [3])  # it ends


def test_a_speed_that_no_shape_has_ends_without_training_and_names_the_fastest():
    tries = FormulaTries()
    with pytest.raises(CompressionError, match=r"2-layers-10 would have 45.00 times the speed and 5.5 MB"):
        search(tries, Settings(speedup=1000.0), DEPTHS)
    assert tries.trained == []


class SlowInt8(FormulaTries):
    """In int8 it is smaller and slower."""

    def _cost(self, shape: Shape, int8: bool) -> Cost:
        cost = super()._cost(shape, int8)
        return replace(cost, speedup=cost.speedup / 3) if int8 else cost


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"speedup": 1000.0}, "30.00 times the speed and 22.0 MB"),
        ({"size": "1MB"}, "15.00 times the speed and 5.5 MB"),
        ({"size": "1MB", "speedup": 14.0}, "15.00 times the speed and 5.5 MB"),
        ({"size": "4MB", "speedup": 1000.0}, "30.00 times the speed and 22.0 MB"),
    ],
)
def test_what_would_be_nearest_is_so_by_what_was_asked_for(limits, words):
    with pytest.raises(CompressionError, match=f"2-layers-10 would have {words}"):
        search(SlowInt8(), Settings(**limits), DEPTHS)


def test_where_nothing_fast_enough_is_good_enough_it_ends():
    tries = FormulaTries()
    trials = search(tries, Settings(speedup=6.0, max_drop=1.0, trials=50), DEPTHS)
    assert find_best(trials, Limits(speedup=6.0, max_drop=1.0)) is None
    assert {shape.layers for shape in tries.trained} == set(DEPTHS)
    assert len([shape for shape in tries.trained if shape.compute < 1]) == len(DEPTHS)


def test_only_what_can_be_made_is_tried():
    tries = FormulaTries(least=0.45)
    search(tries, Settings(max_drop=20.0, trials=50), DEPTHS)
    assert min(shape.compute for shape in tries.trained) == 0.5
    with pytest.raises(CompressionError, match=r"compute = 0.2: with 3 layers"):
        search(FormulaTries(least=0.45), Settings(layers=[3], compute=[0.2]), [3])


def test_named_shares_of_compute_are_the_only_ones():
    tries = FormulaTries()
    search(tries, Settings(compute=[0.5, 0.3], max_drop=20.0, trials=50), DEPTHS)
    assert {shape.compute for shape in tries.trained} == {1.0, 0.5, 0.3}


def test_without_a_limit_of_cost_nothing_is_timed():
    tries = FormulaTries()
    search(tries, Settings(max_drop=3.0), DEPTHS)
    assert tries.measured == []


def test_no_drop_at_all_may_leave_the_whole_pipeline_rounded_or_nothing():
    trials = search(FormulaTries(), Settings(max_drop=0.0, trials=50), DEPTHS)
    assert find_best(trials, Limits(max_drop=0.0)) is None
    trials = search(FormulaTries(), Settings(max_drop=0.1, trials=50), DEPTHS)
    best = find_best(trials, Limits(max_drop=0.1))
    assert best is not None
    assert best.name == "6-layers-int8"


def test_one_training_too_many_is_better_than_no_trial():
    assert search(FormulaTries(), Settings(speedup=6.0, trials=1), [3])


def test_a_grid_is_tried_as_it_is():
    tries = FormulaTries()
    trials = search(tries, Settings(layers=[4, 2], compute=[0.5, 0.25], trials=1), [4, 2])
    assert {trial.shape for trial in trials} == {
        Shape(layers, compute) for layers in (4, 2) for compute in (1.0, 0.5, 0.25)
    }
    assert tries.measured == []
