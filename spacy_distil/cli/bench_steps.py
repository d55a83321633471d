"""`python -m spacy distil bench-steps`: what a step of distillation costs."""

import logging
from pathlib import Path
from typing import Annotated

import typer
from spacy.cli._util import Arg, Opt, import_code
from wasabi import msg

from spacy_distil.cli import distil
from spacy_distil.cli.options import choose_device
from spacy_distil.cli.train import read_overrides


@distil.command("bench-steps", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench_steps_cli(
    ctx: typer.Context,  # holds the overrides
    config_path: Annotated[Path, Arg(help="The student's config file", exists=True, dir_okay=False)],
    teacher: Annotated[
        list[str] | None, Opt("--teacher", "-t", help="Folder of a trained pipeline, or package")
    ] = None,
    output: Annotated[Path | None, Opt("--output", "-o", help="File for the results, as JSON")] = None,
    steps: Annotated[int, Opt("--steps", "-s", min=1, help="Batches to time")] = 20,
    code_path: Annotated[Path | None, Opt("--code", "-c", help="Python file with registered functions")] = None,
    use_gpu: Annotated[int, Opt("--gpu-id", "-g", help="GPU ID or -1 for CPU")] = -1,
) -> None:
    """
    Time a step of distillation beside a plain step of the same student and the teacher alone, with and without the
    teacher's answers in the cache, in turn on the same batches.

    python -m spacy distil bench-steps student.cfg --teacher training/teacher/model-best --paths.train train.spacy
    """
    overrides = read_overrides(ctx.args)
    import_code(code_path)

    from dataclasses import asdict

    import srsly
    from spacy import util
    from spacy.training.initialize import init_nlp

    from spacy_distil.cli.train import add_teacher
    from spacy_distil.evaluation.machine import describe_machine
    from spacy_distil.evaluation.steps import measure_steps

    choose_device(use_gpu)
    logging.getLogger("spacy").setLevel(logging.WARNING)
    try:
        config = util.load_config(config_path, overrides=overrides, interpolate=False)
        add_teacher(config, **({"teacher": teacher} if teacher else {}))
        costs = measure_steps(init_nlp(config, use_gpu=use_gpu), steps=steps, progress=msg.text)
    except (OSError, ValueError) as error:
        msg.fail("The steps can't be timed", error, exits=1)
    together = costs.plain + costs.teacher
    table = [
        ("plain step of the student", _ms(costs.plain), "1.00", ""),
        ("teacher alone", _ms(costs.teacher), f"{costs.teacher / costs.plain:.2f}", ""),
        ("distillation", *_row(costs.distilled, costs.plain, together)),
        ("distillation, cache warm", *_row(costs.warm, costs.plain, together)),
    ]
    msg.table(table, header=("", "ms", "/ plain", "/ plain + teacher"), divider=True, aligns=("l", "r", "r", "r"))
    if output is not None:
        srsly.write_json(output, {"machine": describe_machine(), "steps": steps, "seconds": asdict(costs)})
        msg.good(f"Wrote {output}")


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.0f}"


def _row(seconds: float, plain: float, together: float) -> tuple[str, str, str]:
    return _ms(seconds), f"{seconds / plain:.2f}", f"{seconds / together:.2f}"
