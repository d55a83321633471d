"""`python -m spacy distil …`: one file a command.

spaCy imports this package at the start of every `python -m spacy` command, so nothing heavy is imported here or at the
top of a command's file: an error there would break them all.
"""

# ruff: noqa: E402, F401  a command is there once its file has been imported

import typer
from spacy.cli._util import app

distil = typer.Typer(name="distil", help="Make small transformer pipelines from big ones.", no_args_is_help=True)
app.add_typer(distil)

from spacy_distil.cli import (
    bench,
    bench_generation,
    bench_steps,
    compare,
    compress,
    convert,
    export,
    import_,
    init_config,
    prune,
    quantize,
    slim,
    train,
    write,
)
