"""The component `entity_tagger`: it sets entities, learns them, and lasts."""

from __future__ import annotations

import pickle

import pytest
import spacy
from spacy.tokens import Span
from spacy.training import Example
from thinc.api import Adam

from spacy_distil.errors import ComponentError
from spacy_distil.pipeline.entity_tagger import EntityTagger
from tests.pipeline.conftest import TEXTS, Build, examples


@pytest.fixture
def nlp(build: Build):
    return build(entity_tagger={})


def learn(nlp, steps: int = 80) -> None:
    optimizer = Adam(0.003)
    for _ in range(steps):
        nlp.update(examples(nlp), sgd=optimizer, drop=0.0)


def found(nlp) -> list[list[tuple[str, str]]]:
    return [[(ent.text, ent.label_) for ent in doc.ents] for doc in nlp.pipe(TEXTS)]


@pytest.mark.parametrize("scheme", ["bio", "bilou", "bioes", "plain"])
def test_it_learns_entities_by_every_scheme(build: Build, scheme):
    nlp = build(entity_tagger={"scheme": scheme})
    learn(nlp)
    scores = nlp.evaluate(examples(nlp))
    assert scores["ents_f"] == 1.0
    assert scores["ents_per_type"].keys() == {"NAME"}


def test_tags_that_are_given_keep_their_order(distilbert_folder):
    nlp = spacy.blank("en")
    nlp.add_pipe("distilbert", config={"model": {"name": str(distilbert_folder)}})
    nlp.add_pipe("entity_tagger")
    nlp.config["initialize"]["components"]["entity_tagger"] = {"labels": ["I-NAME", "O", "B-NAME"]}
    nlp.initialize()
    assert nlp.get_pipe("entity_tagger").labels == ("I-NAME", "O", "B-NAME")


def test_the_confidence_of_an_entity_is_the_mean_of_its_tokens(nlp):
    learn(nlp, 20)
    doc = nlp("The film was great in London Berlin .")
    doc.set_ents([Span(doc, 5, 7, "NAME")])
    scores = doc._.entity_scores
    assert len(scores) == len(doc)
    assert all(1 / 3 <= score <= 1 for score in scores)
    assert doc.ents[0]._.confidence == pytest.approx((scores[5] + scores[6]) / 2)


def test_an_entity_neither_starts_nor_ends_with_white_space(nlp):
    pipe = nlp.get_pipe("entity_tagger")
    doc = nlp.make_doc("a \n London  \n\n Berlin \n")
    inside = pipe.labels.index("I-NAME")
    pipe.set_annotations([doc], [([inside] * len(doc), [0.5] * len(doc))])
    assert [ent.text for ent in doc.ents] == ["a \n London  \n\n Berlin"]


def test_entities_that_are_there_stay(nlp):
    pipe = nlp.get_pipe("entity_tagger")
    doc = nlp.make_doc("London Berlin London")
    doc.ents = [Span(doc, 0, 2, "TOUR")]
    pipe.set_annotations([doc], [([pipe.labels.index("B-NAME")] * 3, [0.5] * 3)])
    assert [(ent.text, ent.label_) for ent in doc.ents] == [("London Berlin", "TOUR"), ("London", "NAME")]


def test_it_lasts_on_disk_in_bytes_in_a_pickle_and_in_two_processes(nlp, tmp_path):
    learn(nlp)
    expected = found(nlp)
    assert any(expected)
    nlp.to_disk(tmp_path / "nlp")
    for copy in (spacy.load(tmp_path / "nlp"), pickle.loads(pickle.dumps(nlp))):
        assert found(copy) == expected
        assert copy.get_pipe("entity_tagger").labels == nlp.get_pipe("entity_tagger").labels
    docs = list(nlp.pipe(TEXTS, n_process=2, batch_size=2))
    assert [[(ent.text, ent.label_) for ent in doc.ents] for doc in docs] == expected
    assert [ent._.confidence for doc in docs for ent in doc.ents]


def test_empty_docs_pass(nlp):
    assert [len(doc) for doc in nlp.pipe(["", ""])] == [0, 0]
    nlp.update([Example.from_dict(nlp.make_doc(""), {"entities": []})], sgd=Adam(0.01))


def test_a_type_that_it_does_not_know_is_told_once_and_left_out(nlp):
    doc = nlp.make_doc("The film London")
    example = Example.from_dict(doc, {"entities": [(9, 15, "CITY")]})
    with pytest.warns(UserWarning, match=r"no entities of the type 'CITY'.*It knows NAME"):
        nlp.update([example], sgd=Adam(0.01))


def test_nothing_to_learn_is_an_error(distilbert_folder):
    nlp = spacy.blank("en")
    nlp.add_pipe("distilbert", config={"model": {"name": str(distilbert_folder)}})
    nlp.add_pipe("entity_tagger")
    with pytest.raises(ComponentError, match="has no entities to learn"):
        nlp.initialize()
    with pytest.raises(ComponentError, match=r"scheme = 'iobes'.*bio, bilou, bioes, plain"):
        EntityTagger(nlp.vocab, nlp.get_pipe("entity_tagger").model, scheme="iobes")  # type: ignore[arg-type]


def test_analyze_pipes_says_what_it_needs_and_sets(nlp):
    analysis = nlp.analyze_pipes()["summary"]["entity_tagger"]
    assert analysis["requires"] == ["doc.tensor"]
    assert {"doc.ents", "doc._.entity_scores", "span._.confidence"} <= set(analysis["assigns"])
