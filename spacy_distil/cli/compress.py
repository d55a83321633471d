"""`python -m spacy distil compress`: a pipeline made smaller until it is fast or small enough, or loses too much."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from spacy.cli._util import Arg, Opt, import_code, setup_gpu, show_validation_error
from wasabi import msg

from spacy_distil.cli import distil
from spacy_distil.cli.outputs import check_free
from spacy_distil.cli.train import read_overrides, train

if TYPE_CHECKING:
    from spacy_distil.compression.search.report import Outcome

BEST = "model-best"


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
    whole pipeline as teacher, and round to int8. Numbers of layers and their widths are tried until one is inside the limits
    and nothing better can be expected. Every pipeline that was tried stays in the folder, each step beside the one before it.

    python -m spacy distil compress training/teacher/model-best corpus/train.spacy compressed --speedup 4 --max-drop 1.0

    With --layers and --compute there is no search: distil, prune, train, round, in one command. Settings of the trainings are
    overridden like any other, as in --training.max_steps 500 --distillation.temperature 3.
    """
    import shutil

    import spacy
    from thinc.api import Config

    from spacy_distil.compression.search.plot import import_pyplot
    from spacy_distil.compression.search.report import Outcome, describe_outcome, write_report
    from spacy_distil.compression.search.settings import BLOCK, Settings
    from spacy_distil.compression.search.shapes import default_depths
    from spacy_distil.compression.search.strategy import search
    from spacy_distil.compression.search.workshop import Workshop
    from spacy_distil.drafts import new_folder

    if not resume:
        check_free(output, force)
    overrides = read_overrides(ctx.args)
    import_code(code_path)
    setup_gpu(use_gpu)
    spacy.util.fix_random_seed(0)  # some losses mask at random
    with show_validation_error(config_path):
        config = Config() if config_path is None else spacy.util.load_config(config_path, interpolate=False)
    given = {
        "speedup": speedup,
        "size": size,
        "max_drop": max_drop,
        "layers": None if layers is None else read_numbers("--layers", layers, int),
        "compute": None if compute is None else read_numbers("--compute", compute, float),
        "vocabulary": vocabulary,
        "precisions": None if precisions is None else [name.strip() for name in precisions.split(",")],
        "trials": trials,
    }
    try:
        if plot:
            import_pyplot()
        block = config.pop(BLOCK, {})
        settings = Settings.from_block({**block, **{name: value for name, value in given.items() if value is not None}})
        if force and not resume and output.exists():
            shutil.rmtree(output)
        workshop = Workshop(
            output,
            pipeline,
            corpus,
            settings,
            train=lambda path, folder, again: train(path, folder, use_gpu=use_gpu, resume=again),
            dev=dev,
            config=with_overrides(config, overrides),
            progress=msg.info,
        )
        depths = sorted(settings.layers or default_depths(workshop.depth), reverse=True)
        search(workshop, settings, depths)
    except (OSError, ValueError) as error:  # as spaCy and this package call what the user can mend
        msg.fail(f"Can't make {pipeline} smaller", str(error), exits=1)
    outcome = Outcome(workshop.read_trials(), settings.limits)
    write_report(outcome, output, title=f"{pipeline}, compressed", plot=plot)
    if outcome.chosen is not None:
        with new_folder(output / BEST) as draft:
            shutil.copytree(outcome.chosen.folder, draft, dirs_exist_ok=True)
    show(outcome)
    pictures = "report.html and pareto.png" if plot else "report.html"
    if outcome.chosen is None:
        msg.fail(describe_outcome(outcome), f"All that was tried is in {output}: see {pictures}.", exits=1)
    msg.good(describe_outcome(outcome), f"Wrote {output / BEST}, {pictures}")


def read_numbers(option: str, text: str, kind: type[int] | type[float]) -> list[Any]:
    try:
        return [kind(number) for number in text.split(",")]
    except ValueError:
        msg.fail(f"{option} {text}", "Name numbers with commas between.", exits=1)
        raise


def with_overrides(config: Any, overrides: dict[str, Any]) -> Any:
    """A config with settings of the command line added, whether it had them or not."""
    config = config.copy()
    for name, value in overrides.items():
        *blocks, field = name.split(".")
        place = config
        for block in blocks:
            place = place.setdefault(block, {})
        place[field] = value
    return config


def show(outcome: Outcome) -> None:
    from spacy_distil.compression.search.report import make_table

    header, *rows = make_table(outcome)
    msg.divider("Trials")
    msg.table(rows, header=header, divider=True, aligns=("l", *"r" * (len(header) - 1)))
