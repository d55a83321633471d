"""Train a pipeline once for each seed, in a folder of its own."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from wasabi import msg


def train_seeds(
    output: Annotated[Path, typer.Argument(help="Folder of the folders, which are called as their seeds")],
    seeds: Annotated[str, typer.Argument(help="The seeds, such as 1,2,3")],
    command: Annotated[
        list[str], typer.Argument(help="After --: the command for `python -m`, less --output and --system.seed")
    ],
) -> None:
    for seed in seeds.split(","):
        folder = output / seed
        folder.mkdir(parents=True, exist_ok=True)
        msg.divider(f"{folder}")
        training = subprocess.run([sys.executable, "-m", *command, "--output", str(folder), "--system.seed", seed])
        if training.returncode:
            msg.fail(
                f"The training with seed {seed} ended with {training.returncode}", "Its messages are above.", exits=1
            )


if __name__ == "__main__":
    typer.run(train_seeds)
