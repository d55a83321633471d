"""What components say, how far two pipelines agree in it, and where they do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.pipeline import EntityRecognizer, MultiLabel_TextCategorizer, TextCategorizer
from spacy.tokens import Doc, DocBin, Span

from spacy_distil.evaluation import disagreements
from spacy_distil.evaluation.agreement import compare_statements, measure_agreement
from spacy_distil.evaluation.disagreements import choose_part, find_disagreements
from spacy_distil.evaluation.readings import find_common, find_reading
from spacy_distil.evaluation.scores import Fraction
from spacy_distil.evaluation.sources import AnnotatedCorpus
from tests.distillation.toy import build
from tests.distillation.treebank import CONFIGS, paragraphs, random_pipeline

ONCE = np.ones((1, 6))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "test.spacy"
    DocBin(docs=paragraphs(6, seed=5)).to_disk(path)
    return path


def make_pipeline(factory: str, seed: int) -> Language:
    nlp = random_pipeline(factory, seed=seed)
    if factory == "entity_linker":
        nlp.add_pipe("sentencizer", first=True)
    if factory == "spancat":  # or random weights would say nothing
        nlp.get_pipe("head").cfg["threshold"] = 0.43  # type: ignore[attr-defined]
    return nlp


def value(fraction: Fraction) -> float:
    return float(fraction.on(ONCE)[0])


@pytest.mark.parametrize("factory", CONFIGS)
def test_every_component_agrees_with_itself_and_less_with_another(factory: str, corpus: Path) -> None:
    teacher, student = (AnnotatedCorpus(make_pipeline(factory, seed), corpus) for seed in (2, 1))
    assert any(teacher.said["head"])
    own = measure_agreement(teacher, teacher)["head"]
    assert value(own.statements) == value(own.texts) == 1
    assert find_disagreements(teacher, teacher) == {"head": []}
    other = measure_agreement(teacher, student)["head"]
    assert value(other.statements) < 1
    (found,) = find_disagreements(teacher, student).values()
    assert list(found[0].sides) == ["teacher", "gold", "student"]
    sizes = [one.size for one in found]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 0
    assert value(other.texts) == pytest.approx(1 - len(found) / 6)


def test_statements_by_hand() -> None:
    entity, place, other = (0, 4, "ORG"), (9, 12, "GPE"), (9, 12, "PERSON")
    assert compare_statements({entity, place}, {entity, other}) == (1, 1, 1)
    assert compare_statements(set(), set()) == (0, 0, 0)


def test_agreement_on_tokens_is_the_share_of_tokens(corpus: Path) -> None:
    teacher, student = (AnnotatedCorpus(make_pipeline("tagger", seed), corpus) for seed in (1, 2))
    pairs = [
        (ours.tag_, theirs.tag_)
        for doc, other in zip(teacher.docs, student.docs, strict=True)
        for ours, theirs in zip(doc, other, strict=True)
    ]
    share = sum(ours == theirs for ours, theirs in pairs) / len(pairs)
    assert value(measure_agreement(teacher, student)["head"].statements) == pytest.approx(share)


def test_entities_agree_across_tokenisers() -> None:
    vocab = spacy.blank("en").vocab
    fine = Doc(vocab, words=["New", "York", "-", "based"], spaces=[True, False, False, False])
    coarse = Doc(vocab, words=["New", "York", "-based"], spaces=[True, False, False])
    fine.ents, coarse.ents = [Span(fine, 0, 2, "GPE")], [Span(coarse, 0, 2, "GPE")]
    pipe = EntityRecognizer.__new__(EntityRecognizer)
    reading = find_reading(pipe)
    assert reading is not None
    assert set(reading.read(pipe, fine)) == set(reading.read(pipe, coarse)) == {(0, 8, "GPE")}


@pytest.mark.parametrize(
    ("component", "said"), [(TextCategorizer, {"B"}), (MultiLabel_TextCategorizer, {"A", "B"}), (None, None)]
)
def test_a_text_has_one_category_or_all_that_reach_the_threshold(component: type | None, said: set[str] | None) -> None:
    nlp = spacy.blank("en")
    if component is None:
        assert find_reading(nlp.add_pipe("sentencizer")) is None
        return
    pipe = component(nlp.vocab, model=None, threshold=0.5)
    for label in "ABC":
        pipe.cfg["labels"].append(label)
    doc = nlp.make_doc("a text")
    reading = find_reading(pipe)
    assert reading is not None
    assert list(reading.read(pipe, doc)) == []
    doc.cats = {"A": 0.5, "B": 0.6, "C": 0.1, "of another component": 0.9}
    assert {what for _, _, what in reading.read(pipe, doc)} == said


def test_entities_of_tags_are_read_as_entities_and_a_summary_as_its_sentences() -> None:
    nlp = spacy.blank("en")
    doc = Doc(nlp.vocab, words=["In", "London", ".", "It", "rains", "."], sent_starts=[1, 0, 0, 1, 0, 0])
    tagger, summarizer = nlp.add_pipe("entity_tagger"), nlp.add_pipe("distilbert_summarizer")
    readings = [find_reading(pipe) for pipe in (tagger, summarizer)]
    assert [list(reading.read(pipe, doc)) for reading, pipe in zip(readings, (tagger, summarizer), strict=True)] == [
        [],
        [],
    ]  # type: ignore[union-attr]
    doc.ents = [Span(doc, 1, 2, label="GPE")]
    doc._.summary_offsets = [[12, 22]]
    assert list(readings[0].read(tagger, doc)) == [(3, 9, "GPE")]  # type: ignore[union-attr]
    assert list(readings[1].read(summarizer, doc)) == [(12, 22, "summary")]  # type: ignore[union-attr]


def test_only_components_of_one_name_and_kind_are_compared() -> None:
    teacher, student = spacy.blank("en"), spacy.blank("en")
    for nlp, names in ((teacher, ("ner", "tagger", "a")), (student, ("tagger", "ner", "b"))):
        for factory, name in zip(("ner", "tagger", "parser"), names, strict=True):
            nlp.add_pipe(factory, name=name)
    assert find_common(teacher, student) == {}
    student.add_pipe("parser", name="a")
    assert list(find_common(teacher, student)) == ["a"]


def test_texts_of_one_size_are_in_order_of_the_distance_between_scores(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("one\ntwo\nthree\n")
    teacher, student = (AnnotatedCorpus(build(shared=False), tmp_path / "texts.txt") for _ in range(2))
    for doc, score in zip(student.docs, (0.7, 0.9, 0.3), strict=True):
        doc.cats = {"GOOD": 0.1, "BAD": score, "SOSO": 0.2}
    for doc in teacher.docs:
        doc.cats = {"GOOD": 0.9, "BAD": 0.1, "SOSO": 0.2}
    for said, name in ((teacher.said, "GOOD"), (student.said, "BAD")):
        said["textcat"] = [{(0, len(text), name)} for text in teacher.texts]
    found = find_disagreements(teacher, student)["textcat"]
    assert [one.text for one in found] == ["two", "one", "three"]
    assert found[0].distance == pytest.approx(1.6)
    assert found[0].sides["teacher"].scores["GOOD"] == pytest.approx(0.9)
    assert "gold" not in found[0].sides


def test_of_a_long_text_the_part_with_the_most_differences_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disagreements, "LONGEST", 4)
    doc = Doc(spacy.blank("en").vocab, words=["a", "b", "c", ".", "d", "e", "."], sent_starts=[1, 0, 0, 0, 1, 0, 0])
    differences = [(8, 9, "X"), (10, 11, "X"), (0, 1, "X")]
    assert doc.text[slice(*choose_part(doc, differences, "entities"))] == "d e ."
    assert doc.text[slice(*choose_part(doc, differences, "sentences"))] == "c . d e"
    assert choose_part(doc[:3].as_doc(), differences, "entities") == (0, 6)
