"""The folders that commands write."""

from pathlib import Path

from wasabi import msg


def check_free(output: Path, force: bool) -> None:
    """End the program, before any long work, where a folder has something in it that was not to be overwritten."""
    if output.exists() and not output.is_dir():
        msg.fail(f"{output} is a file", "Name a folder.", exits=1)
    if output.exists() and any(output.iterdir()) and not force:
        msg.fail(f"{output} is there already", "Name another folder, or overwrite it by --force.", exits=1)
