"""`python -m spacy distil train`: `spacy train` with a teacher."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from click import NoSuchOption
from spacy.cli._util import Arg, Opt, import_code, parse_config_overrides, show_validation_error
from wasabi import msg

from spacy_distil.cli import distil
from spacy_distil.cli.options import choose_device

if TYPE_CHECKING:
    from spacy.language import Language
    from thinc.api import Config

logger = logging.getLogger("spacy")


@distil.command("train", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train_cli(
    ctx: typer.Context,  # holds the overrides
    config_path: Annotated[Path, Arg(help="The student's config file", exists=True, dir_okay=False)],
    output_path: Annotated[Path, Opt("--output", "-o", help="Directory to store the student in")],
    teacher: Annotated[
        list[str] | None,
        Opt("--teacher", "-t", help="Folder of a trained pipeline, or name of a package. Several are averaged"),
    ] = None,
    resume: Annotated[
        bool, Opt("--resume", "-r", help="Go on from the last checkpoint in the output directory")
    ] = False,
    temperature: Annotated[float | None, Opt(help="Temperature of the soft labels [default: 2.0]")] = None,
    soft_weight: Annotated[float | None, Opt(help="Weight of what the teacher says [default: 1.0]")] = None,
    gold_weight: Annotated[float | None, Opt(help="Weight of gold labels, where there are any [default: 0.5]")] = None,
    code_path: Annotated[Path | None, Opt("--code", "-c", help="Python file with registered functions")] = None,
    verbose: Annotated[bool, Opt("--verbose", "-V", help="Display more information for debugging purposes")] = False,
    use_gpu: Annotated[int, Opt("--gpu-id", "-g", help="GPU ID or -1 for CPU")] = -1,
) -> None:
    """
    Train a small pipeline, the student, to say what a trained one, the teacher, says.

    Components of the same name learn from the teacher. Their labels come from the teacher, unless the config has them, so
    that the corpus needs no annotation; where it has some, gold labels are mixed in. All other components learn from gold
    labels, as in `spacy train`. All settings stand in the config's block [distillation], and can be overridden on the
    command line like any other, as in --paths.train corpus/train.spacy --distillation.hidden.weight 1.0.

    The same can be had from `spacy train`, by a config with that block and the callback spacy-distil.attach_teacher.v1 as
    [initialize.after_init].
    """
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)  # as `spacy train`
    overrides = read_overrides(ctx.args)
    import_code(code_path)
    settings = {"teacher": teacher, "temperature": temperature, "soft_weight": soft_weight, "gold_weight": gold_weight}
    given = {name: value for name, value in settings.items() if value not in (None, [])}
    train(config_path, output_path, use_gpu=use_gpu, resume=resume, overrides=overrides, **given)


def read_overrides(args: list[str]) -> dict[str, Any]:
    """Settings of the config from the command line. An option that is none ends the program."""
    try:
        return parse_config_overrides(args)
    except NoSuchOption as error:  # click's own, which typer does not catch: it has another click inside
        msg.fail(error.message, "Overrides have a dot, as in --training.max_steps 100.")
        raise SystemExit(1) from None


def train(
    config_path: Path,
    output_path: Path,
    *,
    use_gpu: int = -1,
    resume: bool = False,
    overrides: dict[str, Any] | None = None,
    **settings: Any,
) -> "Language":
    """Train a student, in `output_path/model-best` and `model-last`. Nothing is written before all checks have passed.

    resume: go on from the last checkpoint in `output_path`; see `spacy_distil.distillation.training.loop`.
    settings: fields of [distillation] that overrule the config's; see `spacy_distil.distillation.settings`.
    RETURNS: the student.
    """
    from spacy import util
    from spacy.training.initialize import init_nlp

    from spacy_distil.distillation.attach import detach
    from spacy_distil.distillation.training.loop import train as train_nlp

    if output_path.exists() and not output_path.is_dir():
        msg.fail("The output path is a file", output_path, exits=1)
    choose_device(use_gpu)
    with show_validation_error(config_path):
        config = util.load_config(config_path, overrides=overrides or {}, interpolate=False)
    try:
        msg.divider("Initializing pipeline")
        with show_validation_error(config_path, hint_fill=False):
            add_teacher(config, **settings)
            nlp = init_nlp(config, use_gpu=use_gpu)
        msg.good("Initialized pipeline")
        msg.info(f"Learning from the teacher: {list(nlp.update.taught)}")  # type: ignore[attr-defined]
        msg.info(f"Saving to output directory: {output_path}")
        msg.divider("Training pipeline")
        train_nlp(nlp, output_path, use_gpu=use_gpu, resume=resume, stdout=sys.stdout, stderr=sys.stderr)
    except (OSError, ValueError) as error:  # as spaCy and this package call what the user can mend
        if logger.isEnabledFor(logging.DEBUG):
            raise
        msg.fail("The student can't be trained (--verbose shows where it stopped)", error, exits=1)
    detach(nlp)
    return nlp


def add_teacher(config: "Config", **settings: Any) -> None:
    """Write into a student's config, not interpolated, what makes `spacy train` learn from a teacher: the callback, the
    settings, and the readers of the labels of components that a teacher has and whose labels the config does not give, of
    an entity linker's knowledge base too.

    RAISES: TeacherError if a teacher can't be loaded; DistillationError if the settings make no sense, or the config has
        another callback there.
    """
    from spacy_distil.distillation.attach import CALLBACK, take_from_teacher
    from spacy_distil.distillation.errors import DistillationError
    from spacy_distil.distillation.pipes import find_distiller
    from spacy_distil.distillation.settings import BLOCK, Settings
    from spacy_distil.distillation.teacher import load_teacher

    initialize = config.setdefault("initialize", {})
    present = initialize.get("after_init")
    if present and present.get("@callbacks") != CALLBACK:
        raise DistillationError(
            f"The config already has a callback in [initialize.after_init]: {present}. Remove it: that is the teacher's place."
        )
    initialize["after_init"] = {"@callbacks": CALLBACK}
    config.setdefault(BLOCK, {}).update(settings)
    interpolated = config.interpolate()
    chosen = Settings.from_block(interpolated[BLOCK])
    teachers = chosen.teachers
    components = interpolated.get("components", {})
    if unknown := [name for name in chosen.components or () if name not in components]:
        raise DistillationError(
            f"[{BLOCK}] components has {', '.join(map(repr, unknown))}, which the student has not. It has "
            f"{', '.join(components)}: correct the name, or leave it out."
        )
    for name, block in components.items():
        if chosen.components is not None and name not in chosen.components:
            continue  # its labels are the corpus's
        pipes: list[Any] = [nlp.get_pipe(name) for nlp in map(load_teacher, teachers) if name in nlp.component_names]
        if "factory" not in block or not any(map(find_distiller, pipes)):
            continue  # a sourced component brings its labels with it
        component = initialize.setdefault("components", {}).setdefault(name, {})
        for field, taken in take_from_teacher(pipes[0], list(teachers), name).items():
            if not component.get(field):
                component[field] = taken
