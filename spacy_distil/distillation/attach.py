"""How a teacher is attached to a student: a callback of the stock `spacy train`, and what it leaves behind."""

import re
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import spacy
from spacy.language import Language
from spacy.util import logger

from spacy_distil.distillation.agreement import Evaluation
from spacy_distil.distillation.answers import AnswerStore
from spacy_distil.distillation.components import check_gold, choose_components
from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.head_inheritance import inherit_head
from spacy_distil.distillation.hidden_states.inheritance import inherit
from spacy_distil.distillation.hidden_states.states import match_layers, pair_layers, width
from spacy_distil.distillation.hidden_states.teaching import HiddenTeaching
from spacy_distil.distillation.knowledge_base import KB_READER
from spacy_distil.distillation.pipes import find_distiller
from spacy_distil.distillation.settings import BLOCK, Hidden, Settings
from spacy_distil.distillation.teacher import Teacher, load_teacher
from spacy_distil.distillation.update import DistillationUpdate
from spacy_distil.pipeline.blocks import walk_blocks

CALLBACK = "spacy-distil.attach_teacher.v1"
TAKEN = {"labels": {"@readers": "spacy-distil.TeacherLabels.v1"}, "kb_loader": {"@misc": KB_READER}}
"""What a component's initialisation can take from the teacher, and by which registered function."""


@spacy.registry.callbacks(CALLBACK)
def attach_teacher() -> Callable[[Language], None]:
    """A callback for `[initialize.after_init]`: from then on `nlp.update` learns from the teacher that the config's block
    `[distillation]` names, and `nlp.evaluate` measures agreement with it where the corpus has no gold labels.

        [initialize.after_init]
        @callbacks = "spacy-distil.attach_teacher.v1"

        [distillation]
        teacher = "teacher/model-best"

    The fields of the block are those of `spacy_distil.distillation.settings`. The callback also takes itself, the block and
    the readers of the teacher's labels out of the student's config, so that what is saved holds no trace of the teacher.

    RAISES: DistillationError, TeacherError or LabelError when the callback runs, before training.
    """
    return attach


def attach(nlp: Language) -> None:
    """Attach the teachers that the student's config names. `detach` undoes it."""
    block = nlp.config.interpolate().get(BLOCK)
    if block is None:
        raise DistillationError(
            f'The config has no block [{BLOCK}]. Add one that names the teacher: teacher = "training/teacher/model-best".'
        )
    settings = Settings.from_block(block)
    check_components(nlp, settings)
    pipelines = [load_teacher(name) for name in settings.teachers]
    # From here on the update owns the teachers: don't keep them in memory after training.
    load_teacher.cache_clear()
    taught = choose_components(nlp, pipelines, settings.components)
    warn_of_untaught(settings, taught)
    check_gold(nlp, [name for name in taught if not settings.weights_of(name).soft_weight.is_zero])
    if settings.inherit:
        student, teacher = find_encoders(nlp, pipelines[0], settings.hidden)
        logger.info("%s.", inherit(student, teacher, pair_layers(student, teacher, settings.hidden.layers)))
    if settings.inherit_heads:
        inherit_heads(nlp, {name: pipelines[able[0]] for name, able in taught.items()})
    hidden = make_hidden(nlp, pipelines[0], settings.hidden)
    teachers = make_teachers(pipelines, taught, settings, hidden)
    states = make_states(nlp, pipelines, taught, settings)
    update = DistillationUpdate(nlp, teachers, taught, settings, hidden, states)
    update.block = block
    forget_teacher(nlp, [*settings.teachers, *(pipeline.path for pipeline in pipelines if pipeline.path is not None)])
    nlp.update = update  # type: ignore[method-assign]
    nlp.evaluate = Evaluation(nlp, {name: pipelines[able[0]] for name, able in taught.items()})  # type: ignore
    logger.info("Learning from the teacher: %s", ", ".join(taught))


def check_components(student: Language, settings: Settings) -> None:
    """RAISES: DistillationError for a block of a component that the student has not."""
    for name in settings.per_component:
        if name not in student.component_names:
            raise DistillationError(
                f"[{BLOCK}.per_component.{name}]: the student has no component '{name}'. It has "
                f"{', '.join(student.component_names)}: correct the name, or remove the block."
            )


def warn_of_untaught(settings: Settings, taught: Collection[str]) -> None:
    """A block of a component that no teacher teaches is a wrong `components` as often as one for later."""
    if untaught := [name for name in settings.per_component if name not in taught]:
        warnings.warn(
            f"[{BLOCK}.per_component] has blocks that change nothing: {', '.join(untaught)}. No teacher teaches what is "
            f"frozen, not among `components`, or unlike anything the teacher has. Taught are: {', '.join(taught)}.",
            stacklevel=2,
        )


def inherit_heads(student: Language, teachers: dict[str, Language]) -> None:
    """Let components start from those of the same name in their teachers."""
    told: dict[bool, list[str]] = {True: [], False: []}
    for name, teacher in teachers.items():
        told[inherit_head(student.get_pipe(name), teacher.get_pipe(name))].append(name)
    logger.info(
        "Components that start from the teacher's: %s; that have other labels or shapes: %s",
        ", ".join(told[True]) or "none",
        ", ".join(told[False]) or "none",
    )


def detach(nlp: Language) -> None:
    """Give a student spaCy's own `update` and `evaluate` back."""
    for name in ("update", "evaluate"):
        vars(nlp).pop(name, None)


def take_from_teacher(pipe: Any, teacher: Any, name: str) -> dict[str, Any]:
    """The blocks for `[initialize.components.NAME]` by which a student's component takes from the teacher's what it has.

    pipe: the teacher's component.
    teacher: its path or paths, or the variable of the config that holds it.
    """
    has = {"labels": getattr(pipe, "label_data", None), "kb_loader": getattr(pipe, "kb", None)}
    return {
        field: {**registered, "teacher": teacher, "component": name}
        for field, registered in TAKEN.items()
        if has[field]
    }


def make_hidden(student: Language, teacher: Language, settings: Hidden) -> HiddenTeaching | None:
    """Which hidden states of a student learn from which of a teacher, if any do."""
    if settings.weight.is_zero:
        return None
    encoders = find_encoders(student, teacher, settings)
    return HiddenTeaching(
        settings,
        student=encoders[0].name,
        teacher=encoders[1].name,
        pairs=pair_layers(*encoders, settings.layers),
        widths=(width(encoders[0]), width(encoders[1])),
    )


def make_states(
    student: Language, pipelines: Sequence[Language], taught: dict[str, list[int]], settings: Settings
) -> dict[str, HiddenTeaching]:
    """The same of the encoders that components have to themselves, by component: those whose `states_weight` is not 0."""
    states = {}
    for name, able in taught.items():
        distiller = find_distiller(student.get_pipe(name))
        if distiller is None or distiller.encoder is None or settings.weights_of(name).states_weight.is_zero:
            continue
        own, other = (distiller.encoder(nlp.get_pipe(name)).encoder.config for nlp in (student, pipelines[able[0]]))
        try:
            pairs = match_layers(len(own.layers), len(other.layers), settings.hidden.layers)
        except DistillationError as error:
            raise DistillationError(f"Component '{name}': [{BLOCK}.hidden] {error}") from error
        states[name] = HiddenTeaching(
            settings.hidden, student=name, teacher=name, pairs=pairs, widths=(own.width, other.width)
        )
    return states


def find_encoders(student: Language, teacher: Language, settings: Hidden) -> tuple[Any, Any]:
    """The student's encoder and the teacher's: those that the settings name, or the first of each.

    RAISES: DistillationError
    """
    return _find_encoder(student, settings.student, "student"), _find_encoder(teacher, settings.teacher, "teacher")


def _find_encoder(nlp: Language, name: str | None, whose: str) -> Any:
    encoders = {component: pipe for component, pipe in nlp.components if hasattr(pipe, "listening_components")}
    if encoders and name in (None, *encoders):
        return encoders[name] if name is not None else next(iter(encoders.values()))
    named = "" if name is None else f" named '{name}'"
    raise DistillationError(
        f"[{BLOCK}.hidden]: the {whose} has no shared encoder{named} to compare or to start from. Its shared encoders: "
        f"{', '.join(encoders) or 'none'}. Name one of them as `{whose}`, or set `weight` to 0 and `inherit` to false."
    )


def make_teachers(
    pipelines: Sequence[Language], taught: dict[str, list[int]], settings: Settings, hidden: HiddenTeaching | None
) -> list[Teacher]:
    encoders = [hidden.teacher if hidden is not None and i == 0 else None for i in range(len(pipelines))]
    cache = settings.cache
    store = None if cache.folder is None else AnswerStore(cache.folder, max_bytes=int(cache.max_size * 1e6))
    return [
        Teacher(pipeline, [name for name, able in taught.items() if i in able], store, encoders[i])
        for i, pipeline in enumerate(pipelines)
    ]


def forget_teacher(nlp: Language, teachers: Sequence[str | Path] = ()) -> None:
    """Take the block, the callback and the readers of what the teacher has out of the config, and the path that they name by
    a variable. They have done their work; a saved student must load, and can be trained on, where there is no teacher.

    teachers: paths. An encoder or a decoder that started from one of them names no checkpoint afterwards: it has its weights.
    """
    config = nlp.config
    folders = [Path(teacher).resolve() for teacher in teachers]
    for block in config.get("components", {}).values():
        for model in walk_blocks(block.get("model", {})):
            for field, nothing in (("name", ""), ("decoder", None)):
                start = model.get(field)
                if start and any(Path(str(start)).resolve().is_relative_to(folder) for folder in folders):
                    model[field] = nothing
    initialize = config.get("initialize", {})
    named: list[Any] = [config.pop(BLOCK, {}).get("teacher")]
    if (initialize.get("after_init") or {}).get("@callbacks") == CALLBACK:
        initialize["after_init"] = None
    for settings in initialize.get("components", {}).values():
        for field, registered in TAKEN.items():
            block = settings.get(field)
            if isinstance(block, dict) and registered.items() <= block.items():
                named.append(settings.pop(field)["teacher"])
    for variable in {name for names in named for name in (names if isinstance(names, list) else [names])}:
        path = re.fullmatch(r"\$\{paths\.(\w+)\}", variable or "")
        if path and variable not in config.to_str(interpolate=False):
            config["paths"][path[1]] = None
