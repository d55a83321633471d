import pytest

from spacy_distil.distillation.errors import LabelError, TeacherError
from spacy_distil.distillation.labels import align, teacher_labels

from .toy import SENTIMENTS


def test_labels_are_aligned_by_name():
    assert align("textcat", ["A", "B", "C"], ["C", "A", "B"]) == [1, 2, 0]


def test_error_names_component_labels_and_remedy():
    with pytest.raises(LabelError) as error:
        align("textcat", ["A", "NEW"], ["A", "OLD"])
    for word in ("'textcat'", "'NEW'", "'OLD'", "TeacherLabels", "`components`"):
        assert word in str(error.value)


def test_labels_are_read_from_the_teacher(teacher, teacher_path):
    assert teacher_labels(str(teacher_path), "textcat") == tuple(SENTIMENTS)
    labels = teacher_labels(str(teacher_path), "ner")
    assert labels == teacher.get_pipe("ner").label_data
    labels[0]["spoilt"] = 1
    assert teacher_labels(str(teacher_path), "ner") == teacher.get_pipe("ner").label_data


@pytest.mark.parametrize(("component", "message"), [("parser", "no component"), ("tok2vec", "no labels")])
def test_component_without_labels_is_an_error(component, message, teacher_path):
    with pytest.raises(TeacherError, match=message):
        teacher_labels(str(teacher_path), component)
