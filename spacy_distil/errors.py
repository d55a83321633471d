"""The errors that users meet: each says what was wrong, which value, and what to do."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

KINDS: dict[str, tuple[type, ...]] = {
    "a number": (int, float),
    "a size": (int, float, str),
    "a whole number": (int,),
    "true or false": (bool,),
    "a name": (str,),
    "a path": (str, Path),
}
"""Of a field's values, by what they are called."""


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


def check_kind(name: str, value: Any, kind: str, error: type[ValueError]) -> None:
    """Raises the error for a value of another kind than its field's.

    name: of the field, with its block where there are several.
    kind: one of `KINDS`, or `a list of` one.
    """
    of_each = kind.removeprefix("a list of ")
    is_list = isinstance(value, list | tuple)
    is_good = is_list == (of_each != kind) and all(
        isinstance(one, KINDS[of_each]) and isinstance(one, bool) == (of_each == "true or false")
        for one in (value if is_list else [value])
    )
    if not is_good:
        raise error(f"{name} = {value!r}: it must be {kind}" + (", in brackets." if of_each != kind else "."))
