"""Files and folders that are there whole or not at all: written beside, then renamed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """An empty file beside `path`, which takes its place once the block has ended well."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(0o644)  # mkstemp, and safetensors too, let nobody else read what they make
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a file of JSON, every number as exact as it is."""
    with new_file(path) as draft:
        draft.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf8")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`, which takes its place, and that of whatever was there, once the block has ended well."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        draft.chmod(0o755)
        yield draft
        with set_aside(path):
            os.replace(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def reason_of(error: OSError) -> str:
    """Why something can't be written. shutil.Error has a list of (from, to, reason), one for each file."""
    return str(error.args[0][0][2] if isinstance(error, shutil.Error) else error)


@contextmanager
def set_aside(path: Path) -> Iterator[None]:
    """Take away what is at `path`, if anything is, and remove it for good once the block has ended well. Else it comes back, in
    place of what the block has left there."""
    path = path.resolve()
    if not path.exists():
        yield
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        os.replace(path, aside / path.name)
        try:
            yield
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            os.replace(aside / path.name, path)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
