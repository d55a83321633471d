"""A model with a head becomes a pipeline that says what transformers' pipeline says of the same text."""

from __future__ import annotations

import pytest
import spacy
from spacy.pipeline import Tagger
from transformers import pipeline

from spacy_distil.hub.importing import import_model
from spacy_distil.pipeline.entity_tagger import EntityTagger
from tests.conftest import TEXTS
from tests.hub.conftest import EXACT, TAGS, TOPICS

# Texts that spaCy and BERT cut into the same words, so that both find the same entities.
PLAIN = ["The film was great.", "Unbelievably bad, endless, and the plot of a naive story: watch it in London!", "a"]


def scores(classify, text: str) -> dict[str, float]:
    return {row["label"]: row["score"] for row in classify(text, top_k=None)}


def test_a_single_label_classifier_scores_as_transformers(save_head, model_type):
    folder = save_head(model_type, "SequenceClassification", labels=TOPICS)
    nlp, name = import_model(str(folder))
    assert name == "textcat_exclusive"
    classify = pipeline("text-classification", model=str(folder))
    for text in TEXTS:
        assert nlp(text).cats == pytest.approx(scores(classify, text), abs=EXACT)
    assert list(nlp(TEXTS[0]).cats) == TOPICS


def test_a_multi_label_classifier_scores_as_transformers(save_head, model_type):
    problem = "multi_label_classification"
    folder = save_head(model_type, "SequenceClassification", labels=TOPICS, problem_type=problem)
    nlp, name = import_model(str(folder))
    assert name == "textcat_multilabel"
    classify = pipeline("text-classification", model=str(folder))
    for text in TEXTS:
        assert nlp(text).cats == pytest.approx(scores(classify, text), abs=EXACT)


def test_a_single_label_that_holds_or_not_scores_as_transformers(save_head):
    problem = "multi_label_classification"
    folder = save_head("bert", "SequenceClassification", labels=["toxic"], problem_type=problem)
    nlp, _ = import_model(str(folder))
    expected = scores(pipeline("text-classification", model=str(folder)), TEXTS[0])
    assert nlp(TEXTS[0]).cats == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize(
    ("problem", "pipes"),
    [
        ("single_label_classification", ["distilbert", "textcat_exclusive"]),
        ("multi_label_classification", ["distilbert", "textcat_multilabel", "doc_sentiment"]),
    ],
)
def test_a_classifier_of_sentiment_sets_the_sentiment(save_head, tmp_path, problem, pipes):
    labels = ["NEGATIVE", "POSITIVE", "price"]
    folder = save_head("distilbert", "SequenceClassification", labels=labels, problem_type=problem)
    nlp, name = import_model(str(folder))
    assert nlp.pipe_names == pipes
    assert name == pipes[1]
    nlp.to_disk(tmp_path)
    doc = spacy.load(tmp_path)(TEXTS[1])
    assert doc.sentiment == pytest.approx(doc.cats["POSITIVE"] - doc.cats["NEGATIVE"])
    assert doc.sentiment


@pytest.mark.parametrize("labels", [TAGS, ["O", "PER", "LOC"]], ids=["BIO", "plain"])
def test_a_token_classifier_finds_the_entities_of_transformers(save_head, model_type, labels):
    folder = save_head(model_type, "TokenClassification", labels=labels)
    nlp, name = import_model(str(folder))
    assert isinstance(nlp.get_pipe(name), EntityTagger)
    find = pipeline("token-classification", model=str(folder), aggregation_strategy="first")
    n_found = 0
    for text in PLAIN:
        expected = find(text)
        found = nlp(text).ents
        assert [(ent.start_char, ent.end_char, ent.label_) for ent in found] == [
            (row["start"], row["end"], row["entity_group"]) for row in expected
        ]
        assert [ent._.confidence for ent in found] == pytest.approx(
            [float(row["score"]) for row in expected], abs=EXACT
        )
        n_found += len(found)
    assert n_found


@pytest.mark.parametrize("prefixes", ["BIES", "BILU"])
def test_entities_by_position_are_read_as_what_they_are(save_head, prefixes):
    labels = ["O", *(f"{prefix}-PER" for prefix in prefixes)]
    nlp, name = import_model(str(save_head("distilbert", "TokenClassification", labels=labels)))
    assert nlp.get_pipe(name).labels == tuple(labels)
    found = {ent.label_ for doc in nlp.pipe(TEXTS) for ent in doc.ents}
    assert found == {"PER"}


def test_tokens_have_the_scores_of_their_first_piece(save_head, model_type):
    folder = save_head(model_type, "TokenClassification", labels=TAGS)
    nlp, _ = import_model(str(folder))
    classify = pipeline("token-classification", model=str(folder), ignore_labels=[])
    for text in TEXTS:
        by_start = {}
        for row in classify(text):
            by_start.setdefault(row["start"], row)
        doc = nlp(text)
        compared = [token for token in doc if token.idx in by_start]
        assert compared
        for token in compared:
            assert doc._.entity_scores[token.i] == pytest.approx(float(by_start[token.idx]["score"]), abs=EXACT)


def test_labels_that_are_no_entities_become_tags(save_head, model_type):
    folder = save_head(model_type, "TokenClassification", labels=["NOUN", "VERB", "PUNCT"])
    nlp, name = import_model(str(folder))
    assert type(nlp.get_pipe(name)) is Tagger
    tag = pipeline("token-classification", model=str(folder), aggregation_strategy="none")
    for text in PLAIN:
        rows = {row["start"]: row["entity"] for row in tag(text)}
        assert [token.tag_ for token in nlp(text)] == [rows[token.idx] for token in nlp.make_doc(text)]


def test_questions_are_answered_as_by_transformers(save_head, model_type):
    folder = save_head(model_type, "QuestionAnswering")
    nlp, name = import_model(str(folder))
    answer = pipeline("question-answering", model=str(folder))
    for text in [*PLAIN[:2], "The story of London, and the café in Berlin (2024)."]:
        for question in ("a film?", "London or Berlin: the great movie?"):
            expected = answer(question=question, context=text, align_to_words=False, top_k=3)
            found = nlp.get_pipe(name).answer([nlp.make_doc(text)], [question], top_k=3)[0]
            assert [(a.start_char, a.end_char) for a in found] == [(row["start"], row["end"]) for row in expected]
            assert [a.score for a in found] == pytest.approx([row["score"] for row in expected], abs=EXACT)


def test_a_bare_encoder_becomes_the_encoder_alone(folder):
    nlp, name = import_model(str(folder))
    assert nlp.pipe_names == [name] == ["distilbert"]
    assert nlp(TEXTS[0]).tensor.shape == (5, 32)


def test_the_pipeline_is_whole_on_disk(save_head, tmp_path):
    folder = save_head("bert", "SequenceClassification", labels=TOPICS)
    nlp, _ = import_model(str(folder), component="topic", lang="de")
    nlp.to_disk(tmp_path / "nlp")
    for path in folder.iterdir():
        path.unlink()
    loaded = spacy.load(tmp_path / "nlp")
    assert (loaded.lang, loaded.pipe_names) == ("de", ["distilbert", "topic"])
    assert loaded(TEXTS[1]).cats == pytest.approx(nlp(TEXTS[1]).cats)
    assert loaded.config["training"]["score_weights"] == {"topic_macro_f": 1.0}


def test_labels_can_be_named(save_head):
    folder = save_head("distilbert", "SequenceClassification", num_labels=2)
    nlp, _ = import_model(str(folder), labels=["negative", "positive"])
    expected = scores(pipeline("text-classification", model=str(folder)), "a")
    assert nlp("a").cats == pytest.approx({"negative": expected["LABEL_0"], "positive": expected["LABEL_1"]}, abs=EXACT)


def test_a_text_longer_than_the_window_has_the_mean_of_its_windows_and_loses_nothing(save_head):
    folder = save_head("distilbert", "TokenClassification", labels=TAGS)
    nlp, _ = import_model(str(folder))
    text = "The film was great . " * 40
    doc = nlp(text)
    assert len(doc._.entity_scores) == len(doc) == 200
    assert len({round(score, 6) for score in doc._.entity_scores}) > 5
    folder = save_head("distilbert", "SequenceClassification", labels=TOPICS)
    nlp, _ = import_model(str(folder))
    assert sum(nlp(text).cats.values()) == pytest.approx(1.0)
