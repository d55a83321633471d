"""Files and folders that are there whole or not at all, whenever the process is killed and however full the disk is.

They are written beside as `NAME.draft`, forced onto the disk, and renamed. A folder can't be renamed onto another: the old one
steps aside as `NAME.old` for that moment, and `recover` brings it back if the process was killed just then.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Replace a file by what `write` writes to the path that it is given."""
    draft = _beside(path, "draft")
    try:
        write(draft)
        _flush(draft)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def write_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Replace a folder by what `write` writes to the path that it is given."""
    recover(path)
    draft, old = _beside(path, "draft"), _beside(path, "old")
    try:
        write(draft)
        for written in (*draft.rglob("*"), draft):
            _flush(written)
        if path.exists():
            os.rename(path, old)
        os.rename(draft, path)
    except BaseException:
        recover(path)
        raise
    _flush(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover(path: Path) -> None:
    """Bring back a file or folder that was stepping aside, and remove what an unfinished write has left."""
    draft, old = _beside(path, "draft"), _beside(path, "old")
    if old.exists() and not path.exists():
        os.rename(old, path)
    for leftover in (draft, old):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def _flush(path: Path) -> None:
    """Force a file's content, or a folder's list of names, onto the disk. Windows opens no folders."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
