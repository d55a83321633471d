"""Which sentences make a summary: budgets and redundancy."""

from __future__ import annotations

import pytest

from spacy_distil.errors import ComponentError
from spacy_distil.pipeline.summarization.selection import Selection, cosine

SENTENCES = [text.split() for text in ("a b c d", "a b c e f", "g h", "i j k", "l")]
SCORES = [0.9, 0.8, 0.3, 0.5, 0.1]


def choose(scores: list[float] = SCORES, **settings: object) -> list[int]:
    return Selection(**settings).choose(scores, SENTENCES)  # type: ignore[arg-type]


def test_the_best_are_chosen_and_stand_in_order() -> None:
    assert choose([0.3, 0.8, 0.9, 0.1, 0.5], max_sentences=3, redundancy="none") == [1, 2, 4]


def test_a_budget_of_words_passes_over_what_does_not_fit() -> None:
    assert choose(max_sentences=None, max_words=7, redundancy="none") == [0, 3]
    assert choose(max_sentences=None, max_words=8, redundancy="none") == [0, 3, 4]
    assert choose(max_sentences=1, max_words=3, redundancy="none") == [3]
    assert choose([1, 0, 0, 0, 0], max_sentences=None, max_words=3) == []


def test_three_words_in_common_are_a_repetition() -> None:
    assert choose(max_sentences=3, redundancy="none") == [0, 1, 3]
    assert choose(max_sentences=3, redundancy="trigrams") == [0, 2, 3]


def test_marginal_relevance_prefers_what_is_new() -> None:
    assert choose(max_sentences=2, redundancy="mmr", diversity=0.0) == [0, 1]
    assert choose(max_sentences=2, redundancy="mmr", diversity=0.5) == [0, 3]


def test_marginal_relevance_takes_a_repetition_that_is_much_better() -> None:
    assert choose([0.9, 0.9, 0.01, 0.01, 0.01], max_sentences=2, redundancy="mmr", diversity=0.3) == [0, 1]


def test_a_sentence_without_salience_is_never_chosen() -> None:
    assert choose([0.0, 0.2, 0.0, 0.1, 0.0], max_sentences=5) == [1, 3]
    assert choose([0.0] * 5) == []
    assert Selection().choose([], []) == []


def test_sentences_without_words_are_fine() -> None:
    assert Selection(redundancy="mmr").choose([0.5, 0.5], [[], []]) == [0, 1]


def test_cosine_is_that_of_the_counts() -> None:
    assert cosine(["a", "a", "b"], ["a", "c"]) == pytest.approx(2 / (5 * 2) ** 0.5)
    assert cosine(["a"], ["a"]) == 1.0
    assert cosine(["a"], []) == 0.0


def test_a_summary_without_a_budget_is_an_error() -> None:
    with pytest.raises(ComponentError, match="needs a budget"):
        Selection(max_sentences=None)
