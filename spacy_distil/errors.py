"""The errors that users meet: each says what was wrong, which value, and what to do."""

from collections.abc import Collection, Iterable


class CheckpointError(ValueError):
    """Weights, a config or a tokenizer that can't be used."""


class EncoderError(ValueError):
    """An encoder asked for what it can't do: it has no weights yet, its width does not match, …"""


class ComponentError(ValueError):
    """A component with settings that it does not know, or with nothing to learn from."""


class ExportError(ValueError):
    """A component that can't be written for other programs, or that they read otherwise."""


class CorpusError(ValueError):
    """Texts that can't be read: a file that is not there, damaged, cut off, or without a text."""


def check_fields(place: str, fields: Iterable[str], known: Collection[str], error: type[ValueError]) -> None:
    """Raises the error for fields of a block, [place] of a config, that it has not."""
    if unknown := sorted(set(fields) - set(known)):
        raise error(f"[{place}] has no field {', '.join(map(repr, unknown))}. Its fields are {', '.join(known)}.")
