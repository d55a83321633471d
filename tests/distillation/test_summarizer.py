"""What a `distilbert_summarizer` learns from another one's scores of its sentences."""

from typing import Any

import numpy
import pytest
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Adam, fix_random_seed

from spacy_distil.distillation.agreement import Evaluation
from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.gold import has_gold
from spacy_distil.distillation.pipes import find_distiller, summarizer

from ..pipeline.summaries import build, build_random, reports
from .gradients import assert_finite_differences, assert_gradients_equal, gradients
from .toy import attached, lesson


def examples(n: int, nlp: Language, *, seed: int = 0, annotate: str = "") -> list[Example]:
    return reports(n, vocab=nlp.vocab, seed=seed, annotate=annotate)


def ask(teacher: Language, student: Language, batch: list[Example]) -> Any:
    premises = summarizer.premises(student.get_pipe("head"), batch)
    return lesson(teacher, "head", [example.x for example in batch], premises)


@pytest.mark.parametrize(("soft", "gold"), [(1.0, 0.0), (0.0, 1.0), (0.7, 0.4)])
def test_gradient_of_the_weights_equals_finite_differences(soft: float, gold: float) -> None:
    student, teachers = build_random(seed=1), [build_random(seed=2), build_random(seed=3)]
    pipe: Any = student.get_pipe("head")
    batch = examples(2, student, seed=1) + examples(4, student, seed=2, annotate="summaries")
    lessons = [ask(teacher, student, batch) for teacher in teachers] if soft else []

    def loss() -> float:
        return summarizer.update(pipe, lessons, Batch(batch, 0.0, 2.0, soft, gold))

    assert_finite_differences(pipe, loss, step=2e-3)


def test_soft_gradients_vanish_where_student_and_teacher_agree() -> None:
    student, teacher = build_random(seed=1), build_random(seed=1)
    batch = examples(3, student)
    loss = summarizer.update(student.get_pipe("head"), [ask(teacher, student, batch)], Batch(batch, 0.0, 1.0, 1.0, 0.0))
    assert loss == pytest.approx(0.0, abs=1e-6)
    assert all(abs(gradient).max() < 1e-5 for gradient in gradients(student.get_pipe("head")).values())


def test_gold_alone_is_the_components_own_update() -> None:
    found = []
    for distil in (True, False):
        nlp = build_random(seed=1)
        pipe: Any = nlp.get_pipe("head")
        batch = examples(3, nlp, annotate="summaries") + examples(2, nlp)
        fix_random_seed(0)
        if distil:
            loss = find_distiller(pipe).update(pipe, [], Batch(batch, 0.1, 1.0, 0.0, 1.0))  # type: ignore[union-attr]
        else:
            loss = pipe.update(batch, drop=0.1, sgd=None)["head"]
        found.append((loss, gradients(pipe)))
    assert found[0][0] == pytest.approx(found[1][0])
    assert_gradients_equal(found[0][1], found[1][1])


def test_a_teacher_is_asked_about_the_students_sentences() -> None:
    teacher = build_random(seed=2)
    words = ["a", "b", "c", "d"]
    answers = []
    for starts in ([1, 0, 1, 0], [1, 0, 0, 1]):
        doc = Doc(teacher.vocab, words=words, sent_starts=starts)
        (answer,) = ask(teacher, teacher, [Example(doc, doc)]).answers
        expected = [sentence._.salience for sentence in teacher(doc).sents]
        numpy.testing.assert_allclose(1 / (1 + numpy.exp(-answer["logits"][:, 0])), expected, rtol=1e-5)
        answers.append(answer["logits"])
    assert not numpy.allclose(*answers)


def test_a_teacher_can_be_asked_of_nothing_but_empty_documents() -> None:
    teacher = build_random(seed=2)
    empty = Doc(teacher.vocab)
    (answer,) = ask(teacher, teacher, [Example(empty, empty)]).answers
    assert answer["logits"].shape == (0, 1)


def test_a_student_comes_to_choose_as_its_teacher_on_bare_texts() -> None:
    teacher, student = build(seed=1), build(seed=2)
    sgd = Adam(0.02)
    for epoch in range(25):
        teacher.update(examples(30, teacher, seed=epoch, annotate="summaries"), sgd=sgd)
    update, sgd = attached(student, teacher, components=("head",)), Adam(0.02)
    for epoch in range(25):
        update(examples(30, student, seed=100 + epoch), sgd=sgd)
    dev = [example.x for example in examples(20, student, seed=999)]
    pairs = [(student(doc.copy()), teacher(Doc.copy(doc))) for doc in dev]
    assert sum(a._.summary[0].start == b._.summary[0].start for a, b in pairs) >= 19
    for one, other in pairs:
        difference = [a._.salience - b._.salience for a, b in zip(one.sents, other.sents, strict=True)]
        assert numpy.abs(difference).mean() < 0.15


def test_gold_is_told_from_its_absence() -> None:
    nlp = build()
    pipe = nlp.get_pipe("head")
    bare, summarised, salient = (examples(1, nlp, annotate=kind)[0].reference for kind in ("", "summaries", "salient"))
    assert [has_gold(pipe, reference) for reference in (bare, summarised, salient)] == [False, True, True]
    bare._.summaries = [" "]
    assert not has_gold(pipe, bare)


def test_without_gold_the_score_is_agreement_with_the_teacher() -> None:
    teacher, student = build_random(seed=1), build_random(seed=1)
    for nlp in (teacher, student):
        nlp.add_pipe("sentencizer", first=True)
    evaluate = Evaluation(student, {"head": teacher})
    bare = [
        Example(student.make_doc(text), student.make_doc(text))
        for text in ("One cat. Two dogs here.", "It is. It was.")
    ]
    assert evaluate(bare)["rouge1_f"] == pytest.approx(1.0)
    assert all(example.reference._.summaries is None for example in bare)
