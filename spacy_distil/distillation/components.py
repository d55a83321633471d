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


def choose_components(student: Language, teacher: Language, components: Sequence[str] | None = None) -> list[str]:
    """The components that the teacher teaches, in the student's order, each checked against its counterpart.

    components: their names, or None for all that both pipelines have, that can be distilled and that are not frozen.
    RAISES: TeacherError if there is none, or one of `components` can't be taught; LabelError if labels differ.
    """
    possible = [
        name
        for name in _unfrozen(student)
        if name in teacher.component_names and find_distiller(student.get_pipe(name)) is not None
    ]
    taught = [name for name in possible if components is None or name in components]
    impossible = [name for name in components or [] if name not in possible]
    if impossible or not taught:
        raise TeacherError(
            (f"The teacher can't teach {', '.join(map(repr, impossible))}. " if impossible else "Nothing to distil. ")
            + f"Not frozen in the student: {_unfrozen(student)}; in the teacher: {teacher.component_names}. A component is "
            "taught by the one of the same name, if both are a textcat, a textcat_multilabel or an ner: rename one, thaw it, "
            "or leave it out of `components`."
        )
    for name in taught:
        pupil: Any = student.get_pipe(name)
        master: Any = teacher.get_pipe(name)
        distiller = find_distiller(pupil)
        if distiller is None or distiller is not find_distiller(master):
            raise TeacherError(
                f"Component '{name}' is a {type(pupil).__name__} in the student and a {type(master).__name__} in the "
                "teacher. Rename one of them, or leave it out of `components`."
            )
        distiller.check(pupil, master)
    return taught


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
