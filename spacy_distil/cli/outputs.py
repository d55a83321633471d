"""The files and folders that commands write."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wasabi import msg


def check_free(output: Path, force: bool) -> None:
    """End the program, before any long work, where a folder has something in it that was not to be overwritten."""
    if output.exists() and not output.is_dir():
        msg.fail(f"{output} is a file", "Name a folder.", exits=1)
    if output.exists() and any(output.iterdir()) and not force:
        msg.fail(f"{output} is there already", "Name another folder, or overwrite it by --force.", exits=1)


def check_apart(output: Path, inputs: Iterable[str | Path | None]) -> None:
    """End the program where the output would overwrite an input, or become part of it."""
    output = output.resolve()
    for path in (Path(given).resolve() for given in inputs if given is not None):
        if path.is_relative_to(output) or (path.is_dir() and output.is_relative_to(path)):
            msg.fail(f"{output} and {path} lie one in the other", "Name a folder of its own for the output.", exits=1)


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """End the program where the disk does not take what is written within."""
    from spacy_distil.drafts import reason_of

    try:
        yield
    except OSError as error:
        msg.fail(
            f"{output} can't be written",
            f"{reason_of(error)}. Make room if the disk is full, or name another place.",
            exits=1,
        )
