"""Scores from counts against spaCy's own scorer, on the corpus and on draws of it."""

from __future__ import annotations

import numpy as np
import pytest
import spacy
from spacy import scorer
from spacy.language import Language
from spacy.scorer import Scorer
from spacy.training import Example

from spacy_distil.evaluation.scores import Ratio, RocAuc, collect_scores, flatten, resample_scores
from spacy_distil.pipeline.mean_score import MeanScore
from tests.distillation.toy import build, examples
from tests.distillation.treebank import CONFIGS, gold, random_pipeline


def make_pipeline(factory: str) -> Language:
    nlp = random_pipeline(factory, seed=1)
    if factory == "entity_linker":
        nlp.add_pipe("sentencizer", first=True)
    return nlp


def annotate(nlp: Language, given: list[Example]) -> list[Example]:
    return [Example(nlp(example.predicted), example.reference) for example in given]


def draw(given: list[Example], row: np.ndarray) -> list[Example]:
    return [example for example, n in zip(given, row, strict=True) for _ in range(n)]


def assert_equal_to_spacy(nlp: Language, given: list[Example]) -> dict[tuple[str, ...], float]:
    """On the corpus and on a draw. Where a label is not defined on the draw, spaCy leaves it out or calls it 0."""
    weights = np.array([[1] * len(given), np.random.default_rng(3).integers(0, 3, size=len(given))])
    values = resample_scores(collect_scores(nlp, given), weights)
    whole = dict(flatten(Scorer(nlp).score(given)))
    drawn = dict(flatten(Scorer(nlp).score(draw(given, weights[1]))))
    for path, value in values.items():
        assert value[0] == pytest.approx(whole[path]), path
        assert np.nan_to_num(value[1]) == pytest.approx(drawn.get(path) or 0.0), path
    return {path: float(value[0]) for path, value in values.items()}


@pytest.mark.parametrize("factory", CONFIGS)
def test_scores_of_every_component_are_spacys(factory: str) -> None:
    nlp = make_pipeline(factory)
    given = annotate(nlp, gold(8, seed=5, vocab=nlp.vocab))
    values = assert_equal_to_spacy(nlp, given)
    for name, weight in nlp.get_pipe_meta("head").default_score_weights.items():
        assert weight == 0 or weight is None or (name,) in values


@pytest.mark.parametrize(("annotation", "other"), [("sentiment", "textcat_multilabel"), ("topics", "textcat")])
def test_scores_of_text_categories_are_spacys(annotation: str, other: str) -> None:
    nlp = build(shared=False)
    nlp.remove_pipe(other)
    values = assert_equal_to_spacy(nlp, annotate(nlp, examples(25, seed=1, annotate=annotation, vocab=nlp.vocab)))
    assert {("cats_score",), ("cats_macro_auc",), ("cats_macro_p",), ("cats_micro_f",), ("ents_f",)} <= set(values)
    assert any(path[0] == "cats_auc_per_type" for path in values)


def test_a_text_that_is_drawn_twice_counts_twice_in_the_area_under_the_curve() -> None:
    auc = RocAuc(texts=[0, 1, 2, 3], scores=[0.1, 0.4, 0.4, 0.8], golds=[0.0, 1.0, 0.0, 1.0])
    # pairs won: (1, 0), half of (1, 2), (3, 0), (3, 2)
    np.testing.assert_allclose(auc.on(np.array([[1, 1, 1, 1], [1, 2, 1, 0], [1, 0, 1, 0]])), [3.5 / 4, 0.75, np.nan])


def test_without_annotation_text_categories_have_no_scores() -> None:
    nlp = build(shared=False)
    assert not collect_scores(nlp, annotate(nlp, examples(5, seed=1, annotate="", vocab=nlp.vocab)))


@pytest.mark.parametrize("factory", CONFIGS)
def test_without_annotation_no_component_has_a_score(factory: str) -> None:
    nlp = make_pipeline(factory)
    bare = [Example(example.predicted, example.predicted.copy()) for example in gold(3, seed=5, vocab=nlp.vocab)]
    found = collect_scores(nlp, annotate(nlp, bare))
    assert all(path[0].startswith("token_") for path in found)


class Lengths:
    """A third party's component, whose score is no sum over texts: the longest of them."""

    def __call__(self, doc):
        return doc

    def score(self, given, **settings):
        return {"longest": max(len(example.predicted) for example in given), "name": "none"}


Language.component("test_lengths", func=Lengths())


def test_a_score_that_is_no_sum_is_scored_on_each_draw() -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("test_lengths")
    given = [Example(nlp.make_doc(text), nlp.make_doc(text)) for text in ("one", "one two", "one two three")]
    values = resample_scores(collect_scores(nlp, given), np.array([[1, 1, 1], [2, 1, 0], [3, 0, 0]]))
    np.testing.assert_allclose(values[("longest",)], [3, 2, 1])


def test_such_a_score_is_taken_on_the_corpus_alone_where_draws_cost_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spacy_distil.evaluation.scores.AFFORDED", 60)
    nlp = spacy.blank("en")
    nlp.add_pipe("test_lengths")
    given = [Example(nlp.make_doc(text), nlp.make_doc(text)) for text in ("one", "one two", "one two three")]
    values = resample_scores(collect_scores(nlp, given), np.array([[1, 1, 1], [2, 1, 0], [3, 0, 0]]))
    np.testing.assert_allclose(values[("longest",)], [3, np.nan, np.nan])


def test_spacys_scorer_is_as_it_was_afterwards() -> None:
    before = scorer.PRFScore, scorer.ROCAUCScore
    nlp = make_pipeline("tagger")
    collect_scores(nlp, annotate(nlp, gold(1, seed=5, vocab=nlp.vocab)))
    assert (scorer.PRFScore, scorer.ROCAUCScore) == before


class Lengths:
    """Scores the lengths of some words: a mean of which texts have unlike numbers, or none."""

    name = "lengths"

    def __call__(self, doc: spacy.tokens.Doc) -> spacy.tokens.Doc:
        return doc

    def score(self, given: list[Example]) -> dict[str, MeanScore | None]:
        words = [token for example in given for token in example.reference if token.is_title]
        return {"mean_length": MeanScore.of([len(word) for word in words])}


def test_means_of_unlike_numbers_are_put_together_from_texts() -> None:
    nlp = spacy.blank("en")
    spacy.Language.component("lengths_for_test", func=Lengths())
    nlp.add_pipe("lengths_for_test")
    texts = ["A Title Of Four", "none here", "Another", "In London and Berlin"]
    given = [Example(nlp.make_doc(text), nlp.make_doc(text)) for text in texts]
    values = assert_equal_to_spacy(nlp, given)
    assert values["mean_length",] == pytest.approx((1 + 5 + 2 + 4 + 7 + 2 + 6 + 6) / 8)
    assert isinstance(collect_scores(nlp, given)["mean_length",], Ratio)
    none = resample_scores(collect_scores(nlp, given), np.array([[0, 1, 0, 0]]))
    assert np.isnan(none["mean_length",][0])


def test_a_mean_is_a_number_and_none_of_nothing() -> None:
    mean = MeanScore.of([1.0, 0.0, 0.5])
    assert (mean, mean.total, mean.count) == (0.5, 1.5, 3)
    assert MeanScore.of([]) is None
