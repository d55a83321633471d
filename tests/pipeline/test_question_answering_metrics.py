"""Exact match and F1 as SQuAD's own script computes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.data.metrics import squad_metrics as official  # a copy of the script of SQuAD 2.0

from spacy_distil.pipeline.question_answering.metrics import best, exact_match, f1, normalize

WORDS = st.lists(
    st.sampled_from(["the", "a", "An", "Denver", "denver", "Broncos", "24-10", "U.S.", "“x”", ",", "é"]), max_size=6
)
ANSWERS = WORDS.map(" ".join) | st.text(max_size=12)


@pytest.mark.parametrize(
    ("answer", "normalized"),
    [
        ("The Denver Broncos.", "denver broncos"),
        (" a  Santa Clara,\tCalifornia\n", "santa clara california"),
        ("24–10", "24–10"),  # noqa: RUF001  a dash that is no ASCII punctuation stays
        ("24-10", "2410"),
        ('"golden anniversary"', "golden anniversary"),
        ("Beyoncé", "beyoncé"),
        ("an apple, a theatre", "apple theatre"),
        ("the", ""),
    ],
)
def test_normalisation(answer, normalized):
    assert normalize(answer) == official.normalize_answer(answer) == normalized


@pytest.mark.parametrize(
    ("golds", "predicted", "exact", "overlap"),
    [
        # The published examples of the scripts' wrappers: a full match, no match, two of three.
        (["1976"], "1976", 1.0, 1.0),
        (["1976"], "1999", 0.0, 0.0),
        (["Beyoncé and Bruno Mars"], "Beyonce", 0.0, 0.0),
        (["climate change"], "climate change", 1.0, 1.0),
        # The best of several, whose words count as often as both have them.
        (["Denver Broncos", "The Broncos"], "the Broncos of Denver", 0.0, 0.8),
        (["a b b"], "b b b", 0.0, 0.8),
        # SQuAD 2.0: no answer is the empty one, and so are gold answers of nothing but articles.
        ([], "", 1.0, 1.0),
        ([], "Denver", 0.0, 0.0),
        (["Denver"], "", 0.0, 0.0),
        (["the"], "", 1.0, 1.0),
        (["the", "Denver"], "", 0.0, 0.0),
    ],
)
def test_published_examples_and_conventions(golds, predicted, exact, overlap):
    assert best(exact_match, golds, predicted) == exact
    assert best(f1, golds, predicted) == pytest.approx(overlap)


@given(ANSWERS, ANSWERS)
def test_figures_equal_those_of_the_script(gold, predicted):
    assert normalize(gold) == official.normalize_answer(gold)
    assert exact_match(gold, predicted) == official.compute_exact(gold, predicted)
    assert f1(gold, predicted) == pytest.approx(official.compute_f1(gold, predicted))
