"""A `distilbert_mlm` learns from a deeper one: scores of the vocabulary for the masks that it draws itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import spacy
from spacy.language import Language
from thinc.api import Adam, fix_random_seed

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.errors import LabelError
from spacy_distil.distillation.losses import softmax_kl
from spacy_distil.distillation.pipes import find_distiller, masked_lm
from spacy_distil.pipeline.masked_lm.masking import show_masks
from spacy_distil.pipeline.masked_lm.model import cross_entropy
from tests.conftest import TEXTS, save_tokenizer

from .gradients import assert_finite_differences
from .toy import attached, example, lesson

NAME = "distilbert_mlm"


@pytest.fixture
def teacher(distilbert_folder) -> Language:
    return build(distilbert_folder)


@pytest.fixture
def student(distilbert_folder) -> Language:
    return build(distilbert_folder, layers=[0, 2])


def build(folder, **encoder: Any) -> Language:
    fix_random_seed(0)
    nlp = spacy.blank("en")
    block = {"@architectures": "spacy-distil.DistilBert.v1", "name": str(folder), "precision": "float32", **encoder}
    nlp.add_pipe(NAME, config={"model": {"encoder": block}})
    nlp.initialize()
    pipe: Any = nlp.get_pipe(NAME)
    pipe.model.set_param("W", np.random.normal(scale=0.3, size=(32, 32)).astype("f"))
    return nlp


def batch(student: Language, **weights: float) -> Batch:
    examples = [example(student.make_doc(text), student.vocab) for text in TEXTS]
    return Batch(examples, 0.0, **{"temperature": 2.0, "soft_weight": 1.0, "gold_weight": 0.0, **weights})


def lessons(student: Language, teacher: Language, of: Batch) -> list:
    premises = masked_lm.premises(student.get_pipe(NAME), of.examples)  # type: ignore[arg-type]
    return [lesson(teacher, NAME, of.docs, premises)]


def test_the_gradient_equals_finite_differences(student, teacher):
    pipe, of = student.get_pipe(NAME), batch(student, gold_weight=2.0, soft_weight=5.0)
    heard = lessons(student, teacher, of)
    assert_finite_differences(pipe, lambda: masked_lm.update(pipe, heard, of))


def test_the_loss_is_that_of_sanh_et_al_without_the_cosine(student, teacher):
    pipe, of = student.get_pipe(NAME), batch(student, gold_weight=2.0, soft_weight=5.0)
    (heard,) = lessons(student, teacher, of)
    ids, masks = pipe.read(of.docs), [answer["masks"] for answer in heard.answers]
    shown, positions = [show_masks(*pair) for pair in zip(ids, masks, strict=True)], [m[:, 0] for m in masks]
    ours, theirs = (nlp.get_pipe(NAME).predict_masks(shown, positions) for nlp in (student, teacher))
    targets = np.concatenate([row[at] for row, at in zip(ids, positions, strict=True)])
    expected = 5.0 * softmax_kl(ours, theirs, 2.0)[0] + 2.0 * cross_entropy(ours, targets)[0]
    assert masked_lm.update(pipe, [heard], of) == pytest.approx(expected, rel=1e-4)


def test_a_student_comes_nearer_to_its_teacher_and_the_masks_change(student, teacher):
    student.update = attached(student, teacher, components=(NAME,))  # type: ignore[method-assign]
    of = batch(student)
    before = student.get_pipe(NAME).model.to_bytes()
    optimizer = Adam(0.003)
    history = [student.update(of.examples, sgd=optimizer)[NAME] for _ in range(40)]
    assert sum(history[-5:]) < 0.7 * sum(history[:5])
    assert student.get_pipe(NAME).model.to_bytes() != before
    drawn = [masked_lm.premises(student.get_pipe(NAME), of.examples) for _ in range(2)]  # type: ignore[arg-type]
    assert any(not np.array_equal(a, b) for a, b in zip(*drawn, strict=True))


def test_without_a_teacher_it_learns_what_stood_there(student):
    of = batch(student, gold_weight=1.0)
    assert masked_lm.update(student.get_pipe(NAME), [], of) > 0  # type: ignore[arg-type]
    assert masked_lm.update(student.get_pipe(NAME), [], batch(student)) == 0.0  # type: ignore[arg-type]


def test_docs_without_pieces_teach_nothing(student, teacher):
    examples = [example(student.make_doc(" "), student.vocab)]
    of = Batch(examples, 0.0, 2.0, soft_weight=1.0, gold_weight=1.0)
    assert masked_lm.update(student.get_pipe(NAME), lessons(student, teacher, of), of) == 0.0  # type: ignore[arg-type]


def test_another_vocabulary_is_an_error_that_says_what_differs(student, save_checkpoint):
    folder = save_checkpoint("distilbert")
    save_tokenizer(folder, "distilbert", cased=True)
    for path in folder.glob("*"):
        if path.name in ("vocab.txt", "tokenizer.json"):
            path.write_text(path.read_text(encoding="utf8").replace("Berlin", "Bonn"), encoding="utf8")
    other = build(folder)
    distiller = find_distiller(student.get_pipe(NAME))
    assert distiller is not None
    distiller.check(student.get_pipe(NAME), student.get_pipe(NAME))
    with pytest.raises(LabelError, match="other vocabularies, which differ in pieces such as 'Bonn'"):
        distiller.check(student.get_pipe(NAME), other.get_pipe(NAME))
