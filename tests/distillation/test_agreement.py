"""Evaluation where the corpus says nothing: by the teacher's word."""

import copy

import pytest
import spacy
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_distil.distillation.agreement import Evaluation
from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.gold import has_gold, take_over

from .toy import HEADS, build, examples


def test_teacher_agrees_with_itself_and_not_with_a_beginner(teacher):
    beginner = build()
    for nlp, perfect in ((copy.deepcopy(teacher), True), (beginner, False)):
        nlp.evaluate = Evaluation(nlp, dict.fromkeys(["ner", "textcat_multilabel"], teacher))
        nlp.remove_pipe("textcat")  # spaCy's scorer takes all categories for its own
        scores = nlp.evaluate(examples(20, seed=7, vocab=nlp.vocab))
        for name in ("ents_f", "cats_score"):
            assert (scores[name] == pytest.approx(1.0)) is perfect, name


def test_gold_labels_count_where_there_are_any(teacher):
    nlp = build(heads=("ner",))
    nlp.evaluate = Evaluation(nlp, {"ner": None})  # would fail if it were asked
    scores = nlp.evaluate(examples(20, seed=7, annotate="sentiment", vocab=nlp.vocab))
    assert scores["ents_f"] < 0.5


def test_each_text_is_read_once(teacher, monkeypatch):
    read = []
    pipe = type(teacher).pipe
    monkeypatch.setattr(type(teacher), "pipe", lambda self, docs, **kw: pipe(self, read.append(self) or docs, **kw))
    nlp = build(heads=("ner",))
    nlp.evaluate = Evaluation(nlp, {"ner": teacher})
    results = [nlp.evaluate(examples(5, seed=7, vocab=nlp.vocab))["ents_f"] for _ in range(2)]
    assert results[0] == results[1]
    assert sum(reader is teacher for reader in read) <= 2


def test_corpus_is_left_as_it_was(teacher):
    nlp = build(heads=("ner",))
    nlp.evaluate = Evaluation(nlp, {"ner": teacher})
    egs = examples(3, seed=7, vocab=nlp.vocab)
    nlp.evaluate(egs)
    assert not any(eg.reference.has_annotation("ENT_IOB") for eg in egs)


FILLED = {
    "tagger": {"tags": ["X", "Y", "X"]},
    "morphologizer": {"pos": ["NOUN", "VERB", "NOUN"], "morphs": ["Number=Sing", "", "Number=Plur"]},
    "senter": {"sent_starts": [True, False, True]},
    "trainable_lemmatizer": {"lemmas": ["a", "b", "zz"]},
    "parser": {"heads": [1, 1, 1], "deps": ["nsubj", "ROOT", "obj"]},
    "ner": {"entities": ["B-PER", "O", "U-LOC"]},
    "entity_linker": {"entities": [(0, 1, "PER")], "links": {(0, 1): {"Q1": 1.0}}},
}


@pytest.mark.parametrize("factory", FILLED)
def test_annotation_of_every_kind_is_taken_over(factory):
    source, target = spacy.blank("en"), spacy.blank("en")
    pipe = target.add_pipe(factory)
    words = ["a", "b", "c"]
    said = Example.from_dict(Doc(source.vocab, words=words), FILLED[factory]).reference
    doc = Doc(target.vocab, words=words)
    assert not has_gold(pipe, doc)
    take_over(pipe, said, doc)
    assert has_gold(pipe, doc)
    for attribute in ("tag_", "pos_", "lemma_", "dep_", "ent_type_", "ent_kb_id_", "is_sent_start"):
        assert [getattr(t, attribute) for t in doc] == [getattr(t, attribute) for t in said], attribute
    assert [(str(t.morph), t.head.i) for t in doc] == [(str(t.morph), t.head.i) for t in said]


@pytest.mark.parametrize("factory", ["spancat", "span_finder"])
def test_span_groups_are_taken_over(factory):
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe(factory)
    key = pipe.cfg["spans_key"]
    said, doc = (Doc(nlp.vocab, words=["a", "b", "c"]) for _ in range(2))
    said.spans[key] = [Span(said, 0, 2, "X"), Span(said, 1, 3, "Y")]
    take_over(pipe, said, doc)
    assert [(s.start, s.end, s.label_) for s in doc.spans[key]] == [(0, 2, "X"), (1, 3, "Y")]


def test_component_of_an_unknown_kind_needs_gold():
    class Other:
        name = "other"

    nlp = spacy.blank("en")
    with pytest.raises(DistillationError, match="'other' is a Other"):
        take_over(Other(), nlp("a"), nlp("a"))


def test_copy_of_a_student_has_spacys_own_evaluation(teacher):
    nlp = build()
    nlp.evaluate = Evaluation(nlp, dict.fromkeys(HEADS, teacher))
    assert copy.deepcopy(nlp).evaluate.__func__ is type(nlp).evaluate
