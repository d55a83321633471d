"""The options of commands that hold several values."""

from typing import TypeVar

from wasabi import msg

Number = TypeVar("Number", int, float)


def read_numbers(option: str, text: str, kind: type[Number], hint: str) -> list[Number]:
    """Numbers with commas between. hint: what to do where they are none, with which the program ends."""
    try:
        return [kind(number) for number in text.split(",")]
    except ValueError:
        msg.fail(f"{option} {text}", hint, exits=1)
        raise
