"""Components of a student that start from the teacher's."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from spacy.training.initialize import init_nlp

from spacy_distil.distillation.head_inheritance import inherit_head

from .test_update import student_config
from .toy import HEADS, agreement, build


def parameters(pipe: Any) -> list[np.ndarray]:
    return [node.get_param(name) for node in pipe.model.walk() for name in node.param_names]


def same(one: Any, other: Any) -> bool:
    pairs = zip(parameters(one), parameters(other), strict=True)
    return all(a.shape == b.shape and np.array_equal(a, b) for a, b in pairs)


def copy_encoder(student: Any, teacher: Any) -> None:
    student.get_pipe("tok2vec").model.from_bytes(teacher.get_pipe("tok2vec").model.to_bytes())


def test_with_the_same_encoder_a_student_says_the_same(teacher):
    student = build(width=32)
    before = agreement(student, teacher)
    copy_encoder(student, teacher)
    for name in HEADS:
        assert inherit_head(student.get_pipe(name), teacher.get_pipe(name))
        assert same(student.get_pipe(name), teacher.get_pipe(name))
    assert agreement(student, teacher) == dict.fromkeys(HEADS, 1.0)
    assert min(before.values()) < 0.9


def test_a_copy_learns_for_itself(teacher):
    student = build(width=32)
    inherit_head(student.get_pipe("ner"), teacher.get_pipe("ner"))
    for value in parameters(student.get_pipe("ner")):
        value += 1.0
    assert not same(student.get_pipe("ner"), teacher.get_pipe("ner"))
    assert agreement(teacher, teacher)["ner"] == 1.0


def test_other_widths_and_other_labels_stay_as_they_are(teacher):
    student = build(width=24)
    before = [value.copy() for value in parameters(student.get_pipe("ner"))]
    assert not inherit_head(student.get_pipe("ner"), teacher.get_pipe("ner"))
    assert all(np.array_equal(a, b) for a, b in zip(before, parameters(student.get_pipe("ner")), strict=True))
    student = build(width=32)
    student.get_pipe("textcat").cfg["labels"] = student.get_pipe("textcat").cfg["labels"][::-1]
    assert not inherit_head(student.get_pipe("textcat"), teacher.get_pipe("textcat"))


@pytest.mark.parametrize(("width", "taken"), [(32, "ner, textcat, textcat_multilabel"), (24, "textcat_multilabel")])
def test_a_config_asks_for_it(width, taken, teacher, teacher_path, corpus, caplog):
    caplog.set_level(logging.INFO, "spacy")
    config = student_config(corpus, teacher_path, settings="inherit_heads = true", width=width)
    init_nlp(config)
    message = next(line for line in caplog.messages if line.startswith("Components that start from the teacher's"))
    first, rest = message.split("; ")
    assert sorted(first.split(": ")[1].split(", ")) == taken.split(", ")
    assert ("none" in rest) == (width == 32)
    assert not same(init_nlp(student_config(corpus, teacher_path, width=32)).get_pipe("ner"), teacher.get_pipe("ner"))
