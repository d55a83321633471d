"""The options of commands: those that hold several values, and the device."""

from typing import TypeVar

from spacy.cli._util import setup_gpu
from wasabi import msg

Number = TypeVar("Number", int, float)


def choose_device(gpu_id: int) -> None:
    """Run on a GPU, or for -1 on the processor. Ends the program where there is no such GPU."""
    try:
        setup_gpu(gpu_id)
    except (RuntimeError, ValueError) as error:  # as torch, CuPy and thinc call it
        msg.fail(f"--gpu-id {gpu_id}: {error}", "--gpu-id -1 is the processor.", exits=1)


def read_numbers(option: str, text: str, kind: type[Number], hint: str) -> list[Number]:
    """Numbers with commas between. hint: what to do where they are none, with which the program ends."""
    try:
        return [kind(number) for number in text.split(",")]
    except ValueError:
        msg.fail(f"{option} {text}", hint, exits=1)
        raise
