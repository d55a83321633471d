"""The files of a component's weights: safetensors, with what a reader has to know of them in the metadata."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from spacy_distil.errors import CheckpointError

METADATA = "spacy_distil"
"""The entry of the metadata that has it, as JSON."""


def to_metadata(about: dict[str, Any]) -> dict[str, str]:
    # One entry: safetensors writes several in random order, and equal models should be equal files.
    return {METADATA: json.dumps(about)}


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write safetensors. RAISES: OSError where the disk does not take them, which safetensors says in an error of its own."""
    try:
        safetensors.torch.save_file(dict(tensors), path, metadata=None if metadata is None else dict(metadata))
    except SafetensorError as error:
        raise OSError(f"{str(path)!r}: {error}") from error


def read_saved(path: str | Path, formats: Collection[str]) -> tuple[dict[str, Tensor], Any]:
    """A file's tensors, and what it says of them; its `format` is one of `formats`, the rest is not checked.

    RAISES: CheckpointError for a file that is missing, damaged, or of another format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(METADATA, "{}"))
            # Tensors come as a view of the file: a copy outlives whatever happens to it.
            weights = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"There is no file {str(path)!r}. Copy the pipeline again.") from None
    except (SafetensorError, ValueError) as error:
        raise damaged(path, error) from None
    version = about.get("format") if isinstance(about, dict) else about
    if version not in formats:
        needs = about.get("needs") if isinstance(about, dict) else None
        upgrade = "Upgrade spacy-distil" if needs is None else f"It needs spacy-distil >= {needs}: upgrade"
        raise CheckpointError(
            f"{str(path)!r} is of the format {version!r}, and this version of spacy-distil reads "
            f"{', '.join(map(repr, formats))}. {upgrade}, or train the pipeline again."
        )
    return weights, about


def damaged(path: str | Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{str(path)!r} is truncated or damaged ({type(error).__name__}: {error}). Copy the pipeline again."
    )
