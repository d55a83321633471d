"""Fetch one of the assets in `project.yml`, unless it is there with the right checksum, or with any where none is named. What
breaks off leaves no file behind that could be taken for it."""

import shutil
from http.client import HTTPException
from pathlib import Path
from typing import Annotated
from urllib.request import urlopen

import typer
from wasabi import msg
from weasel.util import get_checksum, load_project_config

from spacy_distil.drafts import new_file

SECONDS = 60.0  # without an answer


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
    path = project / destination
    if path.exists() and checksum in (None, get_checksum(path)):
        msg.good(f"{destination} is there, with the right checksum" if checksum else f"{destination} is taken as it is")
        return
    try:
        with new_file(path) as draft:
            download(url, draft)
            if checksum not in (None, get_checksum(draft)):
                raise ValueError(f"what was fetched has the MD5 {get_checksum(draft)}")
    except (OSError, HTTPException, ValueError) as error:
        msg.fail(
            f"{destination} is not there, or is not the file that project.yml describes, and can't be fetched: {error}",
            f"Download {url} on a machine that reaches it, and copy it here."
            + (f" Its MD5 is {checksum}." if checksum else ""),
            exits=1,
        )
    msg.good(f"Fetched {destination}")


def download(url: str, path: Path) -> None:
    """Raises OSError, HTTPException or ValueError for what can't be fetched, or not to its end."""
    with urlopen(url, timeout=SECONDS) as response, path.open("wb") as file:
        shutil.copyfileobj(response, file)
        expected = response.headers.get("Content-Length")
    size = path.stat().st_size
    if expected is not None and size != int(expected):
        raise ValueError(f"it broke off after {size:,} of {int(expected):,} bytes")


if __name__ == "__main__":
    typer.run(fetch)
