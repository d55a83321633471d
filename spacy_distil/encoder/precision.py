"""Which number format the layers compute in."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import torch

from spacy_distil.encoder.int8 import largest_weight
from spacy_distil.errors import EncoderError

Precision = Literal["auto", "float32", "bfloat16", "float16", "int8"]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def check_precision(precision: str) -> None:
    if precision not in get_args(Precision):
        raise EncoderError(f"precision = {precision!r} is unknown. It takes {', '.join(get_args(Precision))}.")


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The format that `precision` means on a device: `auto` is bfloat16 where there are matrix units for it. `int8` is for the
    products with weights, and all else as in `auto`.

    Raises EncoderError for float16 on a processor, which has no units for it, and for int8 where it does not run.
    """
    if precision == "int8":
        _check_int8(device)
        precision = "auto"
    if precision == "auto":
        return torch.bfloat16 if _has_bfloat16_units(device) else torch.float32
    if precision == "float16" and device.type == "cpu":
        raise EncoderError('precision = "float16" needs a GPU. On a processor use "auto", "bfloat16" or "float32".')
    return _DTYPES[precision]


def _check_int8(device: torch.device) -> None:
    if device.type != "cpu":
        raise EncoderError('precision = "int8" is for processors. On a GPU use "auto", "bfloat16" or "float16".')
    if largest_weight() is None:
        raise EncoderError(
            'precision = "int8" needs an x86 processor, and a recent torch with oneDNN. Use "auto" here.'
        )


def _has_bfloat16_units(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and bool({"amx_bf16", "avx512_bf16"} & _processor_flags())


def _processor_flags() -> set[str]:
    # torch keeps what it knows of AMX under private names that change; Linux says it plainly.
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return set()
    lines = (line for line in cpuinfo.read_text().splitlines() if line.startswith("flags"))
    return set(next(lines, "").split())
