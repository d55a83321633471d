"""Labels of teacher and student, aligned by name: the same label must never be compared with another by position."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import spacy

from spacy_distil.distillation.errors import LabelError, TeacherError
from spacy_distil.distillation.teacher import load_teacher


def align(component: str, student: Sequence[str], teacher: Sequence[str]) -> list[int]:
    """For each label of the student, its column in the teacher's scores.

    student, teacher: labels, or transition moves, each in the order of the scores.
    RAISES: LabelError if one of them has a label that the other has not.
    """
    missing, unknown = sorted(set(student) - set(teacher)), sorted(set(teacher) - set(student))
    if missing or unknown:
        raise LabelError(
            f"Component '{component}': teacher and student have different labels. "
            + (f"Only the student has {_names(missing)}. " if missing else "")
            + (f"Only the teacher has {_names(unknown)}. " if unknown else "")
            + "Take the student's labels from the teacher:\n\n"
            f"[initialize.components.{component}.labels]\n"
            '@readers = "spacy-distil.TeacherLabels.v1"\nteacher = "…"\n'
            f'component = "{component}"\n\n'
            "or leave the component out of `components` in [initialize.after_init], so that it learns from gold labels alone."
        )
    column = {label: i for i, label in enumerate(teacher)}
    return [column[label] for label in student]


def pick_columns(scores: Any, columns: list[int]) -> Any:
    """The scores of a teacher, (rows, labels), in the student's order of labels."""
    return scores if columns == list(range(scores.shape[1])) else scores[:, columns]


@spacy.registry.readers("spacy-distil.TeacherLabels.v1")
def teacher_labels(teacher: str, component: str) -> Any:
    """The `label_data` of a component of the teacher, for `[initialize.components.NAME.labels]`.

    The labels then need not be found in the corpus, which may have no annotation at all.

    teacher (str): folder or package of a trained pipeline.
    component (str): the component's name in it.
    RAISES: TeacherError if the teacher can't be loaded, has no such component, or the component has no labels.
    """
    nlp = load_teacher(teacher)
    if component not in nlp.component_names:
        raise TeacherError(
            f"The teacher '{teacher}' has no component '{component}' to take labels from. "
            f"It has {_names(nlp.component_names)}."
        )
    label_data = getattr(nlp.get_pipe(component), "label_data", None)
    if not label_data:
        raise TeacherError(
            f"Component '{component}' of the teacher '{teacher}' has no labels. Remove the block "
            f"[initialize.components.{component}.labels]."
        )
    # A parser initialised from the teacher's own dictionary would write into it.
    return deepcopy(label_data)


def _names(labels: Sequence[str], limit: int = 12) -> str:
    shown = ", ".join(f"'{label}'" for label in labels[:limit])
    return shown if len(labels) <= limit else f"{shown} and {len(labels) - limit} more"
