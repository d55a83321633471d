"""`doc.sentiment`, set by our text classifier itself, and by a component behind spaCy's."""

from __future__ import annotations

import pytest
import spacy
from spacy.training import Example

from spacy_distil.pipeline.sentiment import find_poles

BOW = {"@architectures": "spacy.TextCatBOW.v3", "ngram_size": 1, "no_output_layer": False, "length": 64}
TEXTS = {"good": "POSITIVE", "bad": "Negative", "the room": "neutral"}


def train(*pipes: str, labels: tuple[str, ...] = ("POSITIVE", "Negative", "neutral")) -> spacy.language.Language:
    nlp = spacy.blank("en")
    for pipe in pipes:
        config = {"model": {**BOW, "exclusive_classes": pipe != "textcat_multilabel"}} if "textcat" in pipe else {}
        nlp.add_pipe(pipe, config=config)
        if "textcat" in pipe:
            nlp.config["initialize"]["components"][pipe] = {"labels": list(labels)}
    examples = [
        Example.from_dict(nlp.make_doc(text), {"cats": {label: float(label == gold) for label in labels}})
        for text, gold in TEXTS.items()
    ]
    optimizer = nlp.initialize(lambda: examples)
    for _ in range(300):
        nlp.update(examples, sgd=optimizer)
    return nlp


@pytest.mark.parametrize(
    "pipes", [("textcat_exclusive",), ("textcat", "doc_sentiment"), ("textcat_multilabel", "doc_sentiment")]
)
def test_sentiment_is_the_difference_of_positive_and_negative(pipes: tuple[str, ...]) -> None:
    nlp = train(*pipes)
    for doc in nlp.pipe(TEXTS):
        assert doc.sentiment == pytest.approx(doc.cats["POSITIVE"] - doc.cats["Negative"])
    good, bad = nlp("good"), nlp("bad")
    assert good.sentiment > 0.05 > -0.05 > bad.sentiment
    assert spacy.tokens.Doc(nlp.vocab).from_bytes(good.to_bytes()).sentiment == pytest.approx(good.sentiment)


def test_other_labels_leave_the_sentiment_alone_or_are_an_error() -> None:
    labels = ("POSITIVE", "other", "neutral")
    assert train("textcat_exclusive", labels=labels)("good").sentiment == 0.0
    nlp = train("textcat", labels=labels)
    nlp.add_pipe("doc_sentiment")
    with pytest.raises(ValueError, match="the Doc has POSITIVE, neutral, other"):
        nlp("good")
    assert spacy.blank("en")("good").sentiment == 0.0
    nlp = spacy.blank("en")
    nlp.add_pipe("doc_sentiment")
    assert nlp("good").sentiment == 0.0


def test_poles_are_named_in_any_case() -> None:
    assert find_poles(["neutral", "NEGATIVE", "Positive"]) == ("Positive", "NEGATIVE")
    assert find_poles(["POSITIVE", "not negative"]) is None
