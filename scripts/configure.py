"""Write the configs of a teacher and its students for a checkpoint: the teacher has all of its layers, a student some."""

from pathlib import Path
from typing import Annotated, Any

import srsly
import typer
from spacy.util import load_config
from thinc.api import Config
from wasabi import msg

from spacy_distil.encoder.checkpoint import CONFIG, find_folder
from spacy_distil.encoder.config import EncoderConfig, choose_layers
from spacy_distil.errors import CheckpointError
from spacy_distil.pipeline.blocks import ENCODER, encoder_blocks

AUTO, ALL = "auto", "all"


def configure(
    base: Annotated[Path, typer.Argument(help="The config to start from", exists=True, dir_okay=False)],
    teacher: Annotated[Path, typer.Argument(help="Where to write the teacher's config")],
    student: Annotated[Path, typer.Argument(help="Where to write the student's config")],
    checkpoint: Annotated[str, typer.Option(help="Hub id, folder, or package:module/folder")],
    layers: Annotated[
        str, typer.Option(help="The student's layers, such as 0,2,4; auto takes every second; all")
    ] = AUTO,
    distilled: Annotated[
        Path | None, typer.Option(help="Where to write the config of the student with a teacher")
    ] = None,
    block: Annotated[Path, typer.Option(help="What is added to that, [distillation] among it")] = Path(
        "configs/distillation.cfg"
    ),
    trained: Annotated[str, typer.Option(help="Where the trained teacher will be")] = "",
    inherit: Annotated[
        bool, typer.Option(help="That student starts from the trained teacher's encoder, or from the checkpoint")
    ] = True,
) -> None:
    config = load_config(base)
    encoder = find_encoder(config["components"])
    if checkpoint != encoder["name"]:
        encoder.update(name=checkpoint, sha256=None)  # the digest is that of the base config's checkpoint
    try:
        hf_config = srsly.read_json(find_folder(checkpoint) / CONFIG)
        n_layers = len(EncoderConfig.from_hf(hf_config, where=f"The checkpoint {checkpoint!r}").layers)
    except CheckpointError as error:
        msg.fail("The checkpoint can't be used", str(error), exits=1)
    write(teacher, config)
    if layers == ALL:
        encoder["layers"] = None
    else:
        encoder["layers"] = choose_layers(n_layers) if layers == AUTO else [int(layer) for layer in layers.split(",")]
    write(student, config)
    if distilled is not None:
        if inherit:
            encoder.update(name=trained, sha256=None)
        config = Config(config).merge(load_config(block))
        config["distillation"]["teacher"] = trained
        write(distilled, config)
    msg.info(f"{checkpoint}: {n_layers} layers, of which the student keeps {encoder['layers'] or ALL}")


def find_encoder(blocks: dict[str, Any]) -> dict[str, Any]:
    """The block of the encoder, the only one of its architecture. Raises ValueError where there is none or several."""
    found = list(encoder_blocks(blocks))
    if len(found) != 1:
        raise ValueError(f"The config has {len(found)} blocks of the architecture {ENCODER}, and one is needed.")
    return found[0]


def write(path: Path, config: Config) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    config.to_disk(path)
    msg.good(f"Wrote {path}")


if __name__ == "__main__":
    typer.run(configure)
