"""A written Hugging Face folder as `model.onnx`, and its check in ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spacy_distil.encoder.tokenizer import PieceTokenizer
from spacy_distil.errors import ExportError

MODEL = "model.onnx"
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
INPUTS = {"distilbert": ("input_ids", "attention_mask"), "bert": ("input_ids", "attention_mask", "token_type_ids")}


def check_packages() -> None:
    """Raises ExportError where a package is missing that writing ONNX needs."""
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        raise ExportError(f"--onnx needs {', '.join(missing)}: pip install 'spacy-distil[onnx]'.")


def write_onnx(folder: Path, architecture: str, outputs: tuple[str, ...]) -> Path:
    """Write the model of a Hugging Face folder as `model.onnx` into it, in float32, for batches and sequences of any size.

    Its inputs are those of transformers' class: input_ids, attention_mask and, of a BERT, token_type_ids, (batch, sequence)
    each.

    architecture: the class.
    outputs: names of what it gives.
    """
    import transformers

    model = getattr(transformers, architecture).from_pretrained(folder, attn_implementation="eager").eval()
    # No size is 1, which would be taken for a constant.
    sample = {name: torch.ones(2, 4, dtype=torch.long) for name in INPUTS[model.config.model_type]}
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=model.config.max_position_embeddings)}
    with _quiet():
        torch.onnx.export(
            model,
            (),
            folder / MODEL,
            kwargs=sample,
            input_names=list(sample),
            output_names=list(outputs),
            dynamic_shapes={name: sizes for name in sample},
            external_data=False,
            dynamo=True,
        )
    return folder / MODEL


def load_onnx(path: Path, tokenizer: PieceTokenizer) -> Callable[..., Mapping[str, NDArray[Any]]]:
    """A function from a text, or a question and its passage, to the model's outputs, without the dimension of the batch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs, outputs = ([value.name for value in values] for values in (session.get_inputs(), session.get_outputs()))

    def run(*texts: str) -> dict[str, NDArray[Any]]:
        segments = [[*encoding.ids, tokenizer.sep_id] for encoding in tokenizer.encode(texts)]
        segments[0].insert(0, tokenizer.cls_id)
        ids = np.concatenate(segments, dtype=np.int64)[None]
        types = np.repeat(np.arange(len(texts)), [len(segment) for segment in segments])[None]
        values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": types}
        results = session.run(outputs, {name: values[name] for name in inputs})
        return {name: result[0] for name, result in zip(outputs, results, strict=True)}

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporter prints its progress, and warns of what concerns its developers alone."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
