"""Save a pipeline so that its encoders run in another precision."""

from pathlib import Path
from typing import Annotated

import spacy
import typer
from wasabi import msg

from spacy_distil.compression.encoders import set_precision


def main(
    pipeline: Annotated[Path, typer.Argument(help="Folder of a pipeline", exists=True, file_okay=False)],
    output: Annotated[Path, typer.Argument(help="Folder for the same pipeline in the precision")],
    precision: Annotated[str, typer.Argument(help="auto, float32, bfloat16, float16 or int8")],
) -> None:
    nlp = spacy.load(pipeline)
    set_precision(nlp, precision)  # type: ignore[arg-type]
    nlp.to_disk(output)
    msg.good(f"Wrote {output}")


if __name__ == "__main__":
    typer.run(main)
