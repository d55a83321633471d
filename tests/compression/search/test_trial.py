"""Which of some trials is best, nearest, or on the front."""

from __future__ import annotations

from dataclasses import replace

from spacy_distil.compression.search.settings import Limits
from spacy_distil.compression.search.shapes import Shape
from spacy_distil.compression.search.trial import Trial, find_best, find_front, find_nearest
from tests.compression.search.trials import WHOLE, make_trial

SLOW = make_trial("slow", speedup=2.0, disk=40_000_000, drop=0.5)
FAST = make_trial("fast", speedup=4.0, disk=30_000_000, drop=2.0)
TINY = make_trial("tiny", speedup=3.0, disk=5_000_000, drop=3.0)
BAD = make_trial("bad", speedup=1.5, disk=50_000_000, drop=9.0)
TRIALS = [SLOW, FAST, TINY, BAD]


def test_the_fastest_inside_the_limits():
    assert find_best(TRIALS, Limits(speedup=1.8, max_drop=2.5)) is FAST
    assert find_best(TRIALS, Limits(max_drop=1.0)) is SLOW
    assert find_best(TRIALS, Limits(speedup=3.0, size=10e6, max_drop=5.0)) is TINY


def test_the_smallest_where_only_the_size_is_limited():
    assert find_best(TRIALS, Limits(size=45e6, max_drop=5.0)) is TINY
    assert find_best(TRIALS, Limits(size=45e6, max_drop=2.0)) is FAST


def test_the_best_score_where_it_may_drop_as_it_likes():
    assert find_best(TRIALS, Limits(speedup=2.5)) is FAST
    assert find_best(TRIALS, Limits(size=45e6)) is SLOW


def test_none_inside_has_two_that_are_nearest():
    limits = Limits(speedup=3.5, max_drop=1.0)
    assert find_best(TRIALS, limits) is None
    assert find_nearest(TRIALS, limits) == [FAST, SLOW]
    assert find_nearest(TRIALS, Limits(speedup=50, max_drop=1.0)) == [SLOW]
    assert find_nearest(TRIALS, Limits(speedup=50)) == [FAST]
    assert find_nearest(TRIALS, Limits(size=1e6, max_drop=3.5)) == [TINY]
    assert find_nearest([], limits) == []


def test_the_front_is_what_no_other_beats_in_both():
    assert find_front([WHOLE, *TRIALS]) == [WHOLE, SLOW, FAST]
    assert find_front([WHOLE, *TRIALS], small=True) == [WHOLE, SLOW, FAST, TINY]


def test_a_trial_is_written_and_read_where_its_search_has_moved_to(tmp_path):
    trial = replace(
        make_trial(shape=Shape(3, 0.7)),
        folder=str(tmp_path / "out" / "trials" / "x" / "model"),
        made_from=str(tmp_path / "whole"),
    )
    file = tmp_path / "out" / "trials" / "x" / "trial.json"
    file.parent.mkdir(parents=True)
    trial.write(file)
    assert Trial.read(file) == trial
    (tmp_path / "out").rename(tmp_path / "moved")
    moved = Trial.read(tmp_path / "moved" / "trials" / "x" / "trial.json")
    assert moved == replace(trial, folder=str(tmp_path / "moved" / "trials" / "x" / "model"))
