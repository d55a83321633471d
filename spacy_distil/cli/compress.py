"""`python -m spacy distil compress`: a pipeline made smaller until it is fast or small enough, or loses too much."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from spacy.cli._util import Arg, Opt, import_code, show_validation_error
from wasabi import msg

from spacy_distil.cli import distil
from spacy_distil.cli.options import choose_device, read_numbers
from spacy_distil.cli.outputs import check_apart, check_free, writing
from spacy_distil.cli.train import read_overrides, train

if TYPE_CHECKING:
    from thinc.api import Config

    from spacy_distil.compression.search.report import Outcome
    from spacy_distil.compression.search.workshop import Workshop

BEST = "model-best"
NUMBERS = "Name numbers with commas between."


@distil.command("compress", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def compress_cli(
    ctx: typer.Context,  # holds the overrides
    pipeline: Annotated[str, Arg(help="Folder of a trained pipeline, or name of an installed one")],
    corpus: Annotated[str, Arg(help="Texts like those it is for, labelled or not: .spacy, .txt, .jsonl, or a folder")],
    output: Annotated[Path, Arg(help="Folder for all that is made, and for what is chosen in the end: model-best")],
    speedup: Annotated[
        float | None, Opt("--speedup", help="Words per second wanted, in multiples of the pipeline's")
    ] = None,
    size: Annotated[str | None, Opt("--size", help="Size of the folder wanted, as in 40MB")] = None,
    max_drop: Annotated[float | None, Opt("--max-drop", help="Points of the score that may be lost at most")] = None,
    layers: Annotated[str | None, Opt("--layers", "-l", help="Numbers of layers to try, as in 3 or 4,3,2")] = None,
    compute: Annotated[
        str | None, Opt("--compute", help="Shares of multiply-adds to try, as in 0.5. With --layers: no search")
    ] = None,
    vocabulary: Annotated[
        bool | None,
        Opt("--vocabulary/--keep-vocabulary", help="Remove unused word pieces [default: if there is a --size]"),
    ] = None,
    precisions: Annotated[
        str | None, Opt("--precisions", "-p", help="auto, int8 or bfloat16, with commas [default: auto,int8]")
    ] = None,
    trials: Annotated[int | None, Opt("--trials", "-n", help="Trainings at most [default: 8]")] = None,
    dev: Annotated[
        str | None, Opt("--dev", "-d", help="Corpus on which all are scored [default: a tenth of the other]")
    ] = None,
    config_path: Annotated[
        Path | None,
        Opt("--config", "-C", help="File with [compression], [distillation], [training]", exists=True, dir_okay=False),
    ] = None,
    resume: Annotated[bool, Opt("--resume", "-r", help="Go on with the search that is in the folder")] = False,
    plot: Annotated[bool, Opt("--plot/--no-plot", help="Draw pareto.png, with matplotlib")] = True,
    code_path: Annotated[Path | None, Opt("--code", "-c", help="Python file with registered functions")] = None,
    force: Annotated[bool, Opt("--force", "-F", help="Overwrite the folder, if it is there")] = False,
    use_gpu: Annotated[int, Opt("--gpu-id", "-g", help="GPU ID or -1 for CPU")] = -1,
) -> None:
    """
    Make a trained pipeline smaller: distil it into fewer layers, prune heads and neurons, train again after each step with the
    whole pipeline as teacher, and round to int8. Numbers of layers are tried, each as wide as the limits let it be, and then
    narrower ones of the best. Every pipeline that was tried stays in the folder, each step beside the one before it.

    python -m spacy distil compress training/teacher/model-best corpus/train.spacy compressed --speedup 4 --max-drop 1.0

    With --layers and --compute there is no search: distil, prune, train, round, in one command. Settings of the trainings are
    overridden like any other, as in --training.max_steps 500 --distillation.temperature 3.
    """
    from contextlib import nullcontext

    import spacy

    from spacy_distil.compression.search.plot import import_pyplot
    from spacy_distil.compression.search.settings import BLOCK, Settings
    from spacy_distil.compression.search.shapes import default_depths
    from spacy_distil.compression.search.strategy import search
    from spacy_distil.compression.search.workshop import Workshop
    from spacy_distil.drafts import set_aside

    check_apart(output, [pipeline, corpus, dev, config_path, code_path])
    if not resume:
        check_free(output, force)
    overrides = read_overrides(ctx.args)
    import_code(code_path)
    choose_device(use_gpu)
    spacy.util.fix_random_seed(0)  # some losses mask at random
    given = {
        "speedup": speedup,
        "size": size,
        "max_drop": max_drop,
        "layers": None if layers is None else read_numbers("--layers", layers, int, NUMBERS),
        "compute": None if compute is None else read_numbers("--compute", compute, float, NUMBERS),
        "vocabulary": vocabulary,
        "precisions": None if precisions is None else [name.strip() for name in precisions.split(",")],
        "trials": trials,
    }
    try:
        if plot:
            import_pyplot()
        config = read_config(config_path, overrides)
        block = config.pop(BLOCK, {})
        settings = Settings.from_block({**block, **{name: value for name, value in given.items() if value is not None}})
        with set_aside(output) if force and not resume else nullcontext():
            workshop = Workshop(
                output,
                pipeline,
                corpus,
                settings,
                train=lambda path, folder, again: train(path, folder, use_gpu=use_gpu, resume=again),
                dev=dev,
                config=config,
                progress=msg.info,
            )
        depths = sorted(settings.layers or default_depths(workshop.depth), reverse=True)
        try:
            made = search(workshop, settings, depths)
        except BaseException:
            write(workshop, recipe=None, plot=plot)  # what has been tried is told, if it breaks off too
            raise
    except (OSError, ValueError) as error:  # as spaCy and this package call what the user can mend
        msg.fail(f"Can't make {pipeline} smaller", str(error), exits=1)
    with writing(output):
        outcome = write(workshop, recipe=made[-1].name if settings.is_grid and made else None, plot=plot)
    show(outcome)
    conclude(outcome, output, plot=plot)


def write(workshop: Workshop, *, recipe: str | None, plot: bool) -> Outcome:
    """The reports, and the chosen pipeline, in place of what an earlier run chose."""
    import shutil

    from spacy_distil.compression.search.report import Outcome, write_report
    from spacy_distil.drafts import new_folder

    outcome = Outcome(workshop.read_trials(), workshop.settings.limits, recipe)
    best = workshop.folder / BEST
    if outcome.chosen is None:
        shutil.rmtree(best, ignore_errors=True)
    else:
        with new_folder(best) as draft:
            shutil.copytree(outcome.chosen.folder, draft, dirs_exist_ok=True)
    write_report(outcome, workshop.folder, title=f"{workshop.pipeline}, compressed", plot=plot)
    return outcome


def conclude(outcome: Outcome, output: Path, *, plot: bool) -> None:
    from spacy_distil.compression.search.report import describe_outcome

    pictures = "report.html and pareto.png" if plot else "report.html"
    if outcome.chosen is not None:
        msg.good(describe_outcome(outcome), f"Wrote {output / BEST}, {pictures}")
    elif outcome.limits.are_open:
        msg.good(describe_outcome(outcome), f"All are in {output}: see {pictures}.")
    else:
        msg.fail(describe_outcome(outcome), f"All that was tried is in {output}: see {pictures}.", exits=1)


def read_config(path: Path | None, overrides: dict[str, Any]) -> Config:
    """The config file with the settings of the command line.

    RAISES: CompressionError for what no training would read, as far as that is known without the pipeline.
    """
    from spacy.schemas import ConfigSchemaTraining
    from spacy.util import load_config
    from thinc.api import Config

    from spacy_distil.compression.errors import CompressionError
    from spacy_distil.compression.search.settings import BLOCK
    from spacy_distil.distillation.settings import BLOCK as DISTILLATION
    from spacy_distil.distillation.settings import FIELDS
    from spacy_distil.errors import check_fields

    with show_validation_error(path):
        config = Config() if path is None else load_config(path, interpolate=False)
    for name, value in overrides.items():
        *blocks, field = name.split(".")
        place: Any = config
        for block in blocks:
            place = place.setdefault(block, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise CompressionError(f"--{name} {value}: a part of that name is a value, and no block.")
        place[field] = value
    schema: Any = ConfigSchemaTraining
    of_training = schema.model_fields if hasattr(schema, "model_fields") else schema.__fields__  # pydantic 2, or 1
    known = {"training": list(of_training), DISTILLATION: FIELDS}
    sections = (BLOCK, "pruning", "system", *known)
    for section, block in config.items():
        if section not in sections:
            raise CompressionError(f"[{section}] has no place here. Sections are {', '.join(sections)}.")
        check_fields(section, block, known.get(section, block), CompressionError)
    return config


def show(outcome: Outcome) -> None:
    from spacy_distil.compression.search.report import make_table

    header, *rows = make_table(outcome)
    msg.divider("Trials")
    msg.table(rows, header=header, divider=True, aligns=("l", *"r" * (len(header) - 1)))
