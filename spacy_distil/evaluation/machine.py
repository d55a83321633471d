"""The facts of a machine that its measurements depend on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch
from thinc.util import get_torch_default_device

from spacy_distil.encoder.precision import resolve_precision

PACKAGES = ("spacy-distil", "spacy", "spacy-transformers", "thinc", "tokenizers", "torch", "transformers")


def describe_machine() -> dict[str, Any]:
    """Processor, GPU, threads, what precision `auto` is, and versions. Memory is in bytes."""
    device = get_torch_default_device()
    cpuinfo = _read_cpuinfo()
    return {
        "processor": cpuinfo.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "amx_bf16": "amx_bf16" in cpuinfo.get("flags", "").split(),
        "avx512_bf16": "avx512_bf16" in cpuinfo.get("flags", "").split(),
        "memory": psutil.virtual_memory().total,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "auto": str(resolve_precision("auto", device)).removeprefix("torch."),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _read_cpuinfo() -> dict[str, str]:
    """What Linux says of its first processor; nothing elsewhere."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text().split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
