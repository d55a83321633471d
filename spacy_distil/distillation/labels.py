"""Labels of teacher and student, aligned by name: the same label must never be compared with another by position."""

from collections.abc import Collection, Iterable, Sequence
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
            "or leave the component out of `components` in [distillation], so that it learns from gold labels alone."
        )
    column = {label: i for i, label in enumerate(teacher)}
    return [column[label] for label in student]


def pick_columns(scores: Any, columns: list[int]) -> Any:
    """The scores of a teacher, (rows, labels), in the student's order of labels."""
    return scores if columns == list(range(scores.shape[1])) else scores[:, columns]


def check_corpus(component: str, used: Iterable[str], known: Collection[str]) -> None:
    """Whether a component knows the labels that the corpus gives it to learn.

    RAISES: LabelError if not.
    """
    unknown = sorted(label for label in used if label not in known)
    if unknown:
        raise LabelError(
            f"Component '{component}': the corpus has the labels {_names(unknown)}, which the component does not know. Rename "
            "or remove them in the corpus, or set gold_weight = 0 to learn from the teacher alone."
        )


def find_pipe(teacher: str | list[str], component: str, wanted: str) -> Any:
    """A component of the teacher; of several teachers, of the first that has it.

    wanted: what is to be taken from it, for the error.
    RAISES: TeacherError if a teacher can't be loaded, or none has such a component.
    """
    pipelines = {name: load_teacher(name) for name in ([teacher] if isinstance(teacher, str) else teacher)}
    for pipeline in pipelines.values():
        if component in pipeline.component_names:
            return pipeline.get_pipe(component)
    has = "; ".join(f"'{name}' has {_names(pipeline.component_names)}" for name, pipeline in pipelines.items())
    raise TeacherError(f"There is no component '{component}' to take {wanted} from: {has}.")


@spacy.registry.readers("spacy-distil.TeacherLabels.v1")
def teacher_labels(teacher: str | list[str], component: str) -> Any:
    """The `label_data` of a component of the teacher, for `[initialize.components.NAME.labels]`.

    The labels then need not be found in the corpus, which may have no annotation at all.

    teacher (Union[str, List[str]]): folder or package of a trained pipeline; of several, the first that has the component.
    component (str): the component's name in it.
    RAISES: TeacherError if a teacher can't be loaded, none has such a component, or the component has no labels.
    """
    pipe = find_pipe(teacher, component, "labels")
    label_data = getattr(pipe, "label_data", None)
    if not label_data:
        raise TeacherError(
            f"Component '{component}' of the teacher {teacher!r} has no labels. Remove the block "
            f"[initialize.components.{component}.labels]."
        )
    # A parser initialised from the teacher's own dictionary would write into it.
    return deepcopy(label_data)


def _names(labels: Sequence[str], limit: int = 12) -> str:
    shown = ", ".join(f"'{label}'" for label in labels[:limit])
    return shown if len(labels) <= limit else f"{shown} and {len(labels) - limit} more"
