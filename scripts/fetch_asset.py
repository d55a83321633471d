"""Fetch one of the assets in `project.yml`, unless it is there with the right checksum, or with any where none is named."""

from pathlib import Path
from typing import Annotated

import typer
from wasabi import msg
from weasel.cli.assets import fetch_asset
from weasel.util import get_checksum, load_project_config


def fetch(
    destination: Annotated[str, typer.Argument(help="`dest` of the asset")],
    unless: Annotated[Path | None, typer.Option(help="A file that makes the asset needless, where it is there")] = None,
) -> None:
    if unless is not None and unless.exists():
        msg.good(f"{unless} is there: {destination} is not needed")
        return
    project = Path.cwd()
    assets = {asset["dest"]: asset for asset in load_project_config(project)["assets"]}
    if destination not in assets:
        msg.fail(f"project.yml has no asset {destination!r}", f"It has {', '.join(assets)}.", exits=1)
    url, checksum = assets[destination]["url"], assets[destination].get("checksum")
    if checksum is None and Path(destination).exists():
        msg.good(f"{destination} is taken as it is")
        return
    try:
        fetch_asset(project, url, Path(destination), checksum)
        is_right = checksum in (None, get_checksum(destination))
    except (OSError, ValueError):
        is_right = False
    if not is_right:
        msg.fail(
            f"{destination} is not there, or is not the file that project.yml describes",
            f"Download {url} on a machine that reaches it, and copy it here."
            + (f" Its MD5 is {checksum}." if checksum else ""),
            exits=1,
        )


if __name__ == "__main__":
    typer.run(fetch)
