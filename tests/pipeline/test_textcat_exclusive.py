"""The component `textcat_exclusive`, beside a `textcat_multilabel` on the same Docs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language
from spacy.training import Example

BOW: dict[str, Any] = {"@architectures": "spacy.TextCatBOW.v3", "ngram_size": 1, "no_output_layer": False, "length": 64}
TEXTS = {
    "good food": {"good": 1.0, "bad": 0.0, "food": 1.0, "room": 0.0},
    "bad food bad room": {"good": 0.0, "bad": 1.0, "food": 1.0, "room": 1.0},
    "good room good food": {"good": 1.0, "bad": 0.0, "food": 1.0, "room": 1.0},
    "bad room": {"good": 0.0, "bad": 1.0, "food": 0.0, "room": 1.0},
}


@pytest.fixture
def nlp() -> Language:
    nlp = spacy.blank("en")
    nlp.add_pipe("textcat_exclusive", name="mood", config={"model": {**BOW, "exclusive_classes": True}})
    nlp.add_pipe("textcat_multilabel", name="topics", config={"model": {**BOW, "exclusive_classes": False}})
    nlp.config["initialize"]["components"] = {
        "mood": {"labels": ["good", "bad"]},
        "topics": {"labels": ["food", "room"]},
    }
    return nlp


def make_examples(nlp: Language) -> list[Example]:
    return [Example.from_dict(nlp.make_doc(text), {"cats": cats}) for text, cats in TEXTS.items()]


def test_learns_beside_another_text_classifier(nlp: Language, tmp_path: Path) -> None:
    examples = make_examples(nlp)
    optimizer = nlp.initialize(lambda: examples)
    for _ in range(200):
        nlp.update(examples, sgd=optimizer)
    nlp.to_disk(tmp_path / "nlp")
    nlp = spacy.load(tmp_path / "nlp")
    scores = nlp.evaluate(make_examples(nlp))
    assert scores["mood_micro_f"] == 1.0
    assert set(scores["mood_f_per_type"]) == {"good", "bad"}
    assert set(scores["cats_f_per_type"]) == {"food", "room"}
    cats = nlp("bad room").cats
    assert cats["good"] + cats["bad"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(("cats", "error"), [({"good": 1.0, "bad": 1.0}, "E895"), ({"good": 0.5, "bad": 0.5}, "E851")])
def test_its_own_labels_still_have_to_exclude_each_other(nlp: Language, cats: dict[str, float], error: str) -> None:
    nlp.initialize(lambda: make_examples(nlp))
    example = Example.from_dict(nlp.make_doc("good food"), {"cats": {**cats, "food": 1.0, "room": 0.0}})
    nlp.select_pipes(enable="mood")
    with pytest.raises(ValueError, match=error):
        nlp.update([example])


def test_analysis_says_what_it_needs_and_sets() -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("textcat_exclusive")
    assert nlp.analyze_pipes()["summary"]["textcat_exclusive"]["assigns"] == ["doc.cats", "doc.sentiment"]
    assert nlp.analyze_pipes()["problems"]["textcat_exclusive"] == ["doc.tensor"]
    nlp.add_pipe("distilbert", first=True)
    assert not any(nlp.analyze_pipes()["problems"].values())
