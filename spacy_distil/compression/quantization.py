"""Encoders whose weights are rounded, and whose matrix products run in int8."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from spacy_distil.compression.encoders import find_encoders, set_precision
from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.requirements import require_format
from spacy_distil.encoder.checkpoint import ROUNDED_FORMAT
from spacy_distil.encoder.precision import resolve_precision
from spacy_distil.encoder.shim import DistilBertShim
from spacy_distil.pipeline.generation.component import Seq2Seq
from spacy_distil.pipeline.generation.model import get_decoder
from spacy_distil.pipeline.references import register_references

Rounding = Literal["int8", "bfloat16"]


@dataclass(frozen=True)
class Quantized:
    """error: the most that rounding has changed a weight by. calibrated: whether texts have shown how to round inputs."""

    error: float
    calibrated: bool


def quantize(nlp: Language, storage: Rounding, examples: Sequence[Example] = ()) -> dict[str, Quantized]:
    """Round the weights of a pipeline's encoders, embeddings too. In int8 they also run so, by their config.

    bfloat16 halves the file, and leaves it to the config how an encoder runs. A decoder is rounded to bfloat16 in any case.

    examples: texts like those to come, on which the inputs of products are calibrated: static quantisation. None: dynamic, but
        for encoders that are calibrated already, which stay so.
    RAISES: CompressionError for a storage that is not known, or larger than the one that is there, a corpus that it has no use
        for, and a pipeline without an encoder; EncoderError where int8 does not run here.
    """
    if storage not in get_args(Rounding):
        raise CompressionError(f"precision = {storage!r} is not known. Known are {', '.join(get_args(Rounding))}.")
    if storage == "bfloat16" and examples:
        raise CompressionError("A corpus calibrates int8. bfloat16 needs none: leave it out.")
    encoders = find_encoders(nlp)
    if storage == "bfloat16":
        _check_not_smaller(encoders)
    else:
        resolve_precision("int8", torch.device("cpu"))
    if examples:
        _calibrate(nlp, list(encoders.values()), examples)
    errors = {name: shim.round_to(storage) for name, shim in encoders.items()}
    for _, pipe in nlp.components:
        if isinstance(pipe, Seq2Seq):
            get_decoder(pipe.model).round_to_bfloat16()
    if storage == "int8":
        set_precision(nlp, "int8")
    nlp.meta["performance"] = {}  # the scores were those of the weights before
    require_format(nlp, ROUNDED_FORMAT)
    return {name: Quantized(errors[name], shim.calibration is not None) for name, shim in encoders.items()}


def _check_not_smaller(encoders: Mapping[str, DistilBertShim]) -> None:
    for name, shim in encoders.items():
        if shim.storage == "int8":
            raise CompressionError(
                f"The encoder of '{name}' is in int8, half as large as in bfloat16. Round the pipeline from which it was made."
            )


def _calibrate(nlp: Language, encoders: Sequence[DistilBertShim], examples: Sequence[Example]) -> None:
    with ExitStack() as stack:
        for shim in encoders:
            stack.enter_context(shim.calibrate())
        for _ in nlp.pipe(_read(examples)):
            pass


def _read(examples: Sequence[Example]) -> Iterator[Doc]:
    """The texts, with the questions about them, which an encoder reads too."""
    register_references()
    for example in examples:
        example.predicted._.questions = example.reference._.questions
        yield example.predicted
