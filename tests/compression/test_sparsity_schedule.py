"""The sparsity of each step, against the paper's formula."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_distil.compression.sparsity.schedule import CubicSchedule


def zhu_and_gupta(t: int, s_i: float, s_f: float, t_0: int, n: int, delta: int) -> float:
    """Eq. 1 as it stands, for t in {t_0, t_0 + delta, …, t_0 + n * delta}."""
    return s_f + (s_i - s_f) * (1 - (t - t_0) / (n * delta)) ** 3


@given(
    initial=st.floats(0, 0.9),
    final=st.floats(0, 0.99),
    begin=st.integers(0, 100),
    n=st.integers(1, 30),
    every=st.integers(1, 20),
)
def test_sparsity_is_that_of_the_formula(initial, final, begin, n, every):
    schedule = CubicSchedule(final, begin, begin + n * every, every)
    choices = [step for step in range(1, begin + n * every + 50) if schedule.chooses_at(step)]
    assert choices == [begin + (i + 1) * every for i in range(n)]
    for step in (begin, *choices):
        assert schedule.at(step, initial) == pytest.approx(zhu_and_gupta(step, initial, final, begin, n, every))


def test_nothing_is_chosen_in_the_warm_up_and_in_the_cool_down():
    schedule = CubicSchedule(0.9, begin=10, end=25, every=10)
    assert [step for step in range(1, 60) if schedule.chooses_at(step)] == [20, 25]
    assert {schedule.at(step, 0.2) for step in range(11)} == {0.2}
    assert {schedule.at(step, 0.2) for step in range(25, 60)} == {0.9}


def test_sparsity_rises_fast_first():
    schedule = CubicSchedule(0.8, begin=0, end=100, every=1)
    rises = [schedule.at(step + 1, 0.0) - schedule.at(step, 0.0) for step in range(100)]
    assert all(one > next_one for one, next_one in itertools.pairwise(rises))
    assert schedule.at(50, 0.0) == pytest.approx(0.7)
