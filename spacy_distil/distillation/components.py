"""Who learns from whom: the student's components, their counterparts in the teacher, and those left to gold labels."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

from spacy.language import Language
from spacy.util import resolve_dot_names

from spacy_distil.distillation.errors import DistillationError, TeacherError
from spacy_distil.distillation.gold import has_gold
from spacy_distil.distillation.pipes import find_distiller

STREAM_SAMPLE = 100
"""Examples that are looked at in a corpus without end, as many as spaCy itself takes for initialisation."""


def choose_components(
    student: Language, teachers: Sequence[Language], components: Sequence[str] | None = None
) -> dict[str, list[int]]:
    """The components that are taught, in the student's order, each with the numbers of the teachers that have it, and
    checked against its counterpart in each.

    components: their names, or None for all that both student and a teacher have, that can be distilled and that are not
        frozen.
    RAISES: TeacherError if there is none, or one of `components` can't be taught; LabelError if labels differ.
    """
    possible = {
        name: [i for i, teacher in enumerate(teachers) if name in teacher.component_names]
        for name in _unfrozen(student)
        if find_distiller(student.get_pipe(name)) is not None
    }
    taught = {name: able for name, able in possible.items() if able and (components is None or name in components)}
    impossible = [name for name in components or [] if name not in taught]
    if impossible or not taught:
        names = sorted({name for teacher in teachers for name in teacher.component_names})
        raise TeacherError(
            (f"The teacher can't teach {', '.join(map(repr, impossible))}. " if impossible else "Nothing to distil. ")
            + f"Not frozen in the student: {_unfrozen(student)}; in the teacher: {names}. A component is "
            "taught by the one of the same name, if there is a distiller for its kind, as there is for all of spaCy's "
            "trainable components: rename one, thaw it, or leave it out of `components`."
        )
    for name, able in taught.items():
        for i in able:
            _check_pair(name, student.get_pipe(name), teachers[i].get_pipe(name))
    return taught


def _check_pair(name: str, student: Any, teacher: Any) -> None:
    distiller = find_distiller(student)
    if distiller is None or distiller is not find_distiller(teacher):
        raise TeacherError(
            f"Component '{name}' is a {type(student).__name__} in the student and a {type(teacher).__name__} in the "
            "teacher. Rename one of them, or leave it out of `components`."
        )
    distiller.check(student, teacher)


def check_gold(student: Language, taught: Sequence[str]) -> None:
    """Whether the training corpus annotates something for each component that is not taught. The corpus is read until it
    does; of a stream only the first examples.

    RAISES: DistillationError if it doesn't.
    """
    missing = [name for name in _unfrozen(student) if name not in taught and _is_head(student.get_pipe(name))]
    if not missing:
        return
    config = student.config.interpolate()
    try:
        (corpus,) = resolve_dot_names(config, [config["training"]["train_corpus"]])
    except ValueError:
        return  # a loop of one's own brings its examples, and needs no [corpora]
    sample = STREAM_SAMPLE if config["training"]["max_epochs"] == -1 else None
    for example in islice(corpus(student), sample):
        missing = [name for name in missing if not has_gold(student.get_pipe(name), example.reference)]
        if not missing:
            return
    raise DistillationError(
        f"Nothing to learn from for {', '.join(map(repr, missing))}: no teacher, and no annotation in the training corpus"
        + (f" (first {sample} examples of the stream)" if sample else "")
        + ". Annotate some of the corpus, take a teacher that has the component, or freeze or remove it."
    )


def _unfrozen(student: Language) -> list[str]:
    frozen = student.config.interpolate()["training"].get("frozen_components") or []
    # Sourced components are disabled when this is asked, but will be trained.
    return [name for name in student.component_names if name not in frozen]


def _is_head(pipe: Any) -> bool:
    """Whether the component is trained towards labels: an encoder is not."""
    return getattr(pipe, "is_trainable", False) and not hasattr(pipe, "listening_components")
