"""Intervals against theory and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from spacy_distil.evaluation import bootstrap
from spacy_distil.evaluation.bootstrap import combine, draw_runs, draw_texts, interval, resample, share
from spacy_distil.evaluation.scores import Fraction


def accuracy(right: np.ndarray) -> Fraction:
    return Fraction("p", range(len(right)), [(int(one), int(not one), 0) for one in right])


def test_draws_have_as_many_texts_as_the_corpus_and_are_the_same_each_time() -> None:
    weights = draw_texts(7, n_resamples=50)
    assert weights.shape == (51, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert (weights[0] == 1).all()
    assert len(np.unique(weights, axis=0)) > 40
    np.testing.assert_array_equal(weights, draw_texts(7, n_resamples=50))


def test_a_large_corpus_gets_fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "MOST_WEIGHTS", 6_000)
    assert len(draw_texts(100)) == 1 + 60
    assert len(draw_texts(1_000)) == 1 + bootstrap.FEWEST


def test_interval_of_an_accuracy_is_that_of_theory() -> None:
    right = np.arange(400) % 5 > 0  # 80 %
    low, high = interval(resample(accuracy(right), draw_texts(400)))  # type: ignore[misc]
    deviation = np.sqrt(0.8 * 0.2 / 400)
    assert low == pytest.approx(0.8 - 1.96 * deviation, abs=0.005)
    assert high == pytest.approx(0.8 + 1.96 * deviation, abs=0.005)


def test_a_figure_is_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, figure = draw_texts(30, n_resamples=60), accuracy(np.arange(30) % 3 > 0)
    whole = resample(figure, weights)
    monkeypatch.setattr(bootstrap, "PART", 100)
    np.testing.assert_array_equal(whole, resample(figure, weights))


def test_the_share_that_is_kept_is_paired() -> None:
    weights = draw_texts(200)
    right = np.arange(200) % 2 > 0
    teacher = resample(accuracy(right), weights)
    assert interval(share(teacher, teacher)) == (100.0, 100.0)
    worse = resample(accuracy(right & (np.arange(200) % 20 > 1)), weights)
    paired = interval(share(worse, teacher))
    unpaired = interval(share(worse, np.random.default_rng(0).permutation(teacher)))
    assert paired is not None
    assert unpaired is not None
    assert paired[1] - paired[0] < 0.6 * (unpaired[1] - unpaired[0])


def test_nothing_is_kept_of_nothing() -> None:
    assert np.isnan(share(np.array([0.5]), np.array([0.0]))).all()


def test_the_mean_of_runs_varies_with_the_runs() -> None:
    runs = [np.full(1001, 0.6), np.full(1001, 0.8), np.full(1001, 1.0)]
    values = combine(runs)
    assert values[0] == pytest.approx(0.8)
    assert interval(values) == (pytest.approx(0.6), pytest.approx(1.0))
    np.testing.assert_array_equal(combine(runs[:1]), runs[0])


def test_draws_of_runs_take_as_many_as_there_are() -> None:
    shares = draw_runs(3, 100)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(shares * 3, np.round(shares * 3))


def test_draws_without_the_label_do_not_count_and_too_few_give_no_interval() -> None:
    values = np.full(101, np.nan)
    values[1:51] = 0.5
    assert interval(values) == (0.5, 0.5)
    assert interval(values[:30]) is None


def test_fractions_by_hand() -> None:
    counts = [(2, 1, 0), (0, 0, 3), (0, 0, 0)]
    weights = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 3], [2, 0, 0]])
    np.testing.assert_allclose(Fraction("p", [0, 1, 2], counts).on(weights), [2 / 3, 0, np.nan, 2 / 3])
    np.testing.assert_allclose(Fraction("r", [0, 1, 2], counts).on(weights), [2 / 5, 0, np.nan, 1])
    np.testing.assert_allclose(Fraction("f", [0, 1, 2], counts).on(weights), [0.5, 0, np.nan, 0.8])
