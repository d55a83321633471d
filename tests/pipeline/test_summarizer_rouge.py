"""ROUGE, against its definition and the library, and the labels that are made by it."""

from __future__ import annotations

import sys
from itertools import chain, combinations
from typing import Any

import pytest
import spacy
from rouge_score.rouge_scorer import RougeScorer
from spacy.tokens import Doc
from spacy.training import Example

from spacy_distil.errors import ComponentError
from spacy_distil.pipeline.references import register_references
from spacy_distil.pipeline.summarization import rouge
from spacy_distil.pipeline.summarization.labels import find_extract, make_labels, measure
from spacy_distil.pipeline.summarization.rouge import find_references, score, score_best

PAIRS = [
    ("The cats are sleeping on mats.", "A cat sleeps on the mat, on the mat!"),
    ("We present a new method for summaries", "A new method for summarising is presented (in 2020)."),
    ("", "Something."),
    ("Nothing in common", "at all"),
]


@pytest.mark.parametrize(("prediction", "reference"), PAIRS)
def test_english_is_scored_exactly_as_the_library_does(prediction: str, reference: str) -> None:
    library = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True).score(reference, prediction)
    assert score(prediction, reference, "en") == {
        kind: pytest.approx(value.fmeasure) for kind, value in library.items()
    }


def test_scores_are_those_of_their_definition() -> None:
    found = score("the cat sat", "the cat lay down", "en")
    assert found["rouge1"] == pytest.approx(2 * 2 / (3 + 4))
    assert found["rouge2"] == pytest.approx(2 * 1 / (2 + 3))
    assert found["rougeL"] == pytest.approx(2 * 2 / (3 + 4))


def test_all_scores_are_those_against_the_nearest_reference_by_rouge_1() -> None:
    prediction, references = "a b c d", ["b a d c", "a b x y z"]
    assert score_best(prediction, references, "en") == score(prediction, references[0], "en")
    assert score(prediction, references[1], "en")["rouge2"] > score_best(prediction, references, "en")["rouge2"]


def test_other_languages_keep_their_letters() -> None:
    assert score("Über Äpfel", "über Birnen", "de")["rouge1"] == pytest.approx(0.5)
    assert score("кошка спит", "кошка ест", "ru")["rouge1"] == pytest.approx(0.5)
    assert score("猫が眠る", "猫が鳴く", "ja")["rouge1"] == pytest.approx(0.5)
    assert score("naïve", "nave", "de")["rouge1"] == 0.0


def test_a_reference_without_a_word_is_none() -> None:
    register_references()
    doc = Doc(spacy.blank("en").vocab, ["x"])
    assert find_references(doc) == []
    doc._.summaries = ["", " \n", "…", "A.", "猫"]
    assert find_references(doc) == ["A.", "猫"]


@pytest.mark.parametrize("summaries", [7, ["A.", 7], [None], {"summary": "A."}])
def test_a_reference_that_is_no_text_is_an_error(summaries: Any) -> None:
    register_references()
    doc = Doc(spacy.blank("en").vocab, ["x"])
    doc._.summaries = summaries
    with pytest.raises(ComponentError, match=r"in doc\._\.summaries is no text: give a list of texts"):
        find_references(doc)


def test_a_missing_library_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rouge_score", None)
    with pytest.raises(ComponentError, match=r"spacy-distil\[summarization\]"):
        rouge._library()


# Labels

SENTENCES = ("Red cats sleep here .", "We like tea .", "Blue dogs run fast .", "Red cats run .")


def test_the_extract_is_the_best_that_greed_finds() -> None:
    references = ("Red cats sleep here . Blue dogs run fast .",)
    assert find_extract(SENTENCES, references, "en", 3) == (0, 2)
    best = max((c for n in (1, 2, 3) for c in combinations(range(4), n)), key=lambda c: reach(c, references))
    assert best == (0, 2)


def reach(numbers: tuple[int, ...], references: tuple[str, ...]) -> float:
    return measure([SENTENCES[i] for i in numbers], references, "en")


def test_the_extract_keeps_to_its_budget_and_leaves_out_what_adds_nothing() -> None:
    assert find_extract(SENTENCES, ("Red cats sleep here . Blue dogs run fast .",), "en", 1) in {(0,), (2,)}
    assert find_extract(SENTENCES, ("We like tea .",), "en", 3) == (1,)
    assert find_extract(SENTENCES, ("Nothing whatever",), "en", 3) == ()
    assert find_extract((), ("We like tea .",), "en", 3) == ()


def test_labels_of_a_text_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    find_extract.cache_clear()
    for _ in range(3):
        find_extract(SENTENCES, ("We like tea .",), "en", 2)
    assert find_extract.cache_info().misses == 1


@pytest.fixture
def example() -> Example:
    register_references()
    words = [sentence.split() for sentence in SENTENCES]
    starts = [i == 0 for sentence in words for i in range(len(sentence))]
    doc = Doc(spacy.blank("en").vocab, words=list(chain(*words)), sent_starts=starts)
    reference = doc.copy()
    reference._.summaries = ["", "Red cats sleep ."]
    reference._.salient = [1]
    return Example(doc, reference)


def labels(example: Example, kind: Any) -> list[float]:
    spans = [(sentence.start, sentence.end) for sentence in example.predicted.sents]
    return make_labels(example, spans, kind, 2).tolist()


def test_labels_are_what_is_asked_for(example: Example) -> None:
    assert labels(example, "salient") == [0, 1, 0, 0]
    assert labels(example, "greedy") == [1, 0, 0, 0]
    gains = labels(example, "gains")
    assert gains[:3] == [1, 0, 0]
    assert 0 < gains[3] < 1


def test_labels_are_what_is_there(example: Example) -> None:
    example.reference._.summaries = None
    assert [labels(example, kind) for kind in ("gains", "greedy")] == [[0, 1, 0, 0]] * 2
    example.reference._.summaries = ["Red cats sleep ."]
    example.reference._.salient = None
    assert labels(example, "salient") == [1, 0, 0, 0]


def test_a_summary_with_nothing_in_common_calls_no_sentence_salient(example: Example) -> None:
    example.reference._.summaries = ["Nothing whatever"]
    assert [labels(example, kind) for kind in ("gains", "greedy")] == [[0, 0, 0, 0]] * 2
