"""`python -m spacy distil train`: `spacy train` with a teacher."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from click import NoSuchOption
from spacy.cli._util import Arg, Opt, import_code, parse_config_overrides, setup_gpu, show_validation_error
from wasabi import msg

from spacy_distil.cli import distil

if TYPE_CHECKING:
    from spacy.language import Language
    from thinc.api import Config

logger = logging.getLogger("spacy")


@distil.command("train", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train_cli(
    ctx: typer.Context,  # holds the overrides
    config_path: Annotated[Path, Arg(help="The student's config file", exists=True, dir_okay=False)],
    teacher: Annotated[str, Opt("--teacher", "-t", help="Folder of a trained pipeline, or name of a package")],
    output_path: Annotated[Path, Opt("--output", "-o", help="Directory to store the student in")],
    temperature: Annotated[float | None, Opt(help="Temperature of the soft labels [default: 2.0]")] = None,
    soft_weight: Annotated[float | None, Opt(help="Weight of what the teacher says [default: 1.0]")] = None,
    gold_weight: Annotated[float | None, Opt(help="Weight of gold labels, where there are any [default: 0.5]")] = None,
    code_path: Annotated[Path | None, Opt("--code", "-c", help="Python file with registered functions")] = None,
    verbose: Annotated[bool, Opt("--verbose", "-V", help="Display more information for debugging purposes")] = False,
    use_gpu: Annotated[int, Opt("--gpu-id", "-g", help="GPU ID or -1 for CPU")] = -1,
) -> None:
    """
    Train a small pipeline, the student, to say what a trained one, the teacher, says.

    Components of the same name learn from the teacher: textcat, textcat_multilabel and ner. Their labels come from the
    teacher, unless the config has them, so that the corpus needs no annotation; where it has some, gold labels are mixed
    in. All other components learn from gold labels, as in `spacy train`. The config's settings can be overridden on the
    command line, as in --paths.train corpus/train.spacy.

    The same can be had from `spacy train`, by a config with the callback spacy-distil.attach_teacher.v1 as
    [initialize.after_init].
    """
    if verbose:
        logger.setLevel(logging.DEBUG)
    try:
        overrides = parse_config_overrides(ctx.args)
    except NoSuchOption as error:  # click's own, which typer does not catch: it has another click inside
        msg.fail(error.message, "Overrides have a dot, as in --training.max_steps 100.", exits=1)
    import_code(code_path)
    settings = {"temperature": temperature, "soft_weight": soft_weight, "gold_weight": gold_weight}
    given = {name: value for name, value in settings.items() if value is not None}
    train(config_path, teacher, output_path, use_gpu=use_gpu, overrides=overrides, **given)


def train(
    config_path: Path,
    teacher: str,
    output_path: Path,
    *,
    use_gpu: int = -1,
    overrides: dict[str, Any] | None = None,
    **settings: float,
) -> "Language":
    """Train a student, in `output_path/model-best` and `model-last`. Nothing is written before all checks have passed.

    settings: temperature, soft_weight, gold_weight; see `spacy_distil.distillation.training.attach_teacher`.
    RETURNS: the student.
    """
    from spacy import util
    from spacy.training.initialize import init_nlp
    from spacy.training.loop import train as train_nlp

    if output_path.exists() and not output_path.is_dir():
        msg.fail("The output path is a file", output_path, exits=1)
    setup_gpu(use_gpu)
    with show_validation_error(config_path):
        config = util.load_config(config_path, overrides=overrides or {}, interpolate=False)
    try:
        msg.divider("Initializing pipeline")
        with show_validation_error(config_path, hint_fill=False):
            add_teacher(config, teacher, **settings)
            nlp = init_nlp(config, use_gpu=use_gpu)
        msg.good("Initialized pipeline")
        msg.info(f"Learning from the teacher: {list(nlp.update.teacher.components)}")  # type: ignore[attr-defined]
        output_path.mkdir(parents=True, exist_ok=True)
        msg.info(f"Saving to output directory: {output_path}")
        msg.divider("Training pipeline")
        train_nlp(nlp, output_path, use_gpu=use_gpu, stdout=sys.stdout, stderr=sys.stderr)
    except (OSError, ValueError) as error:  # as spaCy and this package call what the user can mend
        if logger.isEnabledFor(logging.DEBUG):
            raise
        msg.fail("The student can't be trained (--verbose shows where it stopped)", error, exits=1)
    del nlp.update
    return nlp


def add_teacher(config: "Config", teacher: str, **settings: float) -> None:
    """Write into a student's config, not interpolated, what makes `spacy train` learn from a teacher: the callback, and the
    readers of the labels of components that the teacher has and whose labels the config does not give.

    RAISES: TeacherError if the teacher can't be loaded; DistillationError if the config already has a callback there.
    """
    from spacy_distil.distillation.errors import DistillationError
    from spacy_distil.distillation.pipes import find_distiller
    from spacy_distil.distillation.teacher import load_teacher
    from spacy_distil.distillation.training import CALLBACK, LABEL_READER

    initialize = config.setdefault("initialize", {})
    present = initialize.get("after_init")
    if present:
        raise DistillationError(
            f"The config already has a callback in [initialize.after_init]: {present}. Remove it, or, if it attaches "
            "a teacher, use `spacy train`."
        )
    initialize["after_init"] = {"@callbacks": CALLBACK, "teacher": teacher, **settings}
    teacher_nlp = load_teacher(teacher)
    for name, block in config.interpolate()["components"].items():
        teaches = name in teacher_nlp.component_names and find_distiller(teacher_nlp.get_pipe(name)) is not None
        if not teaches or "factory" not in block:
            continue  # a sourced component brings its labels with it
        component = initialize.setdefault("components", {}).setdefault(name, {})
        if not component.get("labels"):
            component["labels"] = {"@readers": LABEL_READER, "teacher": teacher, "component": name}
