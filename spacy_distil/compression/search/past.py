"""Whether a search that stands in a folder already is the same one: `search.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spacy_distil.compression.errors import CompressionError
from spacy_distil.corpora.files import find_files
from spacy_distil.digests import add_file
from spacy_distil.drafts import write_json

FILE = "search.json"


def read_past(folder: Path) -> dict[str, Any]:
    """What the search in a folder was made with; nothing where there is none.

    RAISES: CompressionError for a folder of something else.
    """
    file = folder / FILE
    if file.exists():
        return json.loads(file.read_text(encoding="utf8"))
    if folder.exists() and not all(path.name.startswith(".") for path in folder.iterdir()):
        raise CompressionError(f"There is no search in '{folder}' to go on with. Name its folder, or a new one.")
    return {}


def check_past(folder: Path, past: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Note what a search is made with, as JSON holds it, if it is new.

    RAISES: CompressionError that names what differs, if it is not.
    """
    if not past:
        write_json(folder / FILE, now)
        return
    differ = [name for name in sorted(past.keys() | now.keys()) if past.get(name) != now.get(name)]
    if differ:
        what = "; ".join(
            f"another {name}"
            if name in ("pipeline", "corpus")
            else f"{name} = {past.get(name)}, and not {now.get(name)}"
            for name in differ
        )
        raise CompressionError(
            f"The search in '{folder}' was made with {what}. It goes on with the same pipeline, corpus and training; limits, "
            "layers, compute, precisions and trials may change. Name another folder for this one."
        )


def digest_files(paths: Iterable[str]) -> str:
    """Of the contents of files, and of those in folders."""
    digest = hashlib.blake2b(digest_size=16)
    for path in find_files(list(paths)):
        add_file(digest, path)
        digest.update(f"\0{path.stat().st_size}\0".encode())
    return digest.hexdigest()
