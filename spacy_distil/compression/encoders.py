"""The encoders of a pipeline: the shared ones, and those inside components."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from spacy.language import Language

from spacy_distil.compression.errors import CompressionError
from spacy_distil.encoder.precision import Precision, check_precision
from spacy_distil.encoder.shim import DistilBertShim
from spacy_distil.pipeline.blocks import encoder_blocks
from spacy_distil.pipeline.encoders import encoders_of


def find_encoders(nlp: Language) -> dict[str, DistilBertShim]:
    """Each encoder by the name of its component, `NAME 2` for a second one in it.

    RAISES: CompressionError where there is none.
    """
    found: dict[str, DistilBertShim] = {}
    for name, pipe in nlp.components:
        for i, shim in enumerate(encoders_of(pipe), start=1):
            if not any(shim is other for other in found.values()):
                found[name if i == 1 else f"{name} {i}"] = shim
    if not found:
        raise CompressionError(
            f"There is no DistilBERT or BERT encoder in the pipeline to make smaller: it has "
            f"{', '.join(nlp.component_names) or 'no components'}. Distil it into a pipeline with a `distilbert` first."
        )
    return found


def check_trainable(encoders: Mapping[str, DistilBertShim]) -> None:
    """RAISES: CompressionError where an encoder runs in int8: what becomes smaller has to learn again."""
    for name, shim in encoders.items():
        if shim.options.precision == "int8":
            raise CompressionError(
                f"The encoder of '{name}' is in int8, which does not learn. Make the pipeline from which it was made smaller, "
                'or load it with precision = "auto" and save that.'
            )


def set_freeze(nlp: Language, shim: DistilBertShim, freeze: int) -> None:
    """Let so many of an encoder's first layers be frozen, here and wherever the pipeline is loaded."""
    shim.options = replace(shim.options, freeze=freeze)
    for name, pipe in nlp.components:
        for inside, block in zip(encoders_of(pipe), encoder_blocks(nlp.get_pipe_config(name)), strict=False):
            if inside is shim:
                block["freeze"] = freeze


def set_precision(nlp: Language, precision: Precision) -> None:
    """Let all encoders of a pipeline run in a precision, here and wherever it is loaded.

    RAISES: EncoderError for one that is not known.
    """
    check_precision(precision)
    for shim in find_encoders(nlp).values():
        shim.options = replace(shim.options, precision=precision)
    for name in nlp.component_names:
        for block in encoder_blocks(nlp.get_pipe_config(name)):
            block["precision"] = precision
