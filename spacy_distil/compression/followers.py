"""Components that know an encoder's pieces by number, and follow it when it loses some."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

from spacy_distil.compression.errors import CompressionError
from spacy_distil.pipeline.generation.component import Seq2Seq
from spacy_distil.pipeline.generation.model import shared_words
from spacy_distil.pipeline.masked_lm.component import MaskedLanguageModel


@singledispatch
def check_pieces(pipe: Any) -> None:
    """Raises CompressionError where the encoder inside the component can't lose pieces."""


@check_pieces.register
def _(pipe: Seq2Seq) -> None:
    if shared_words(pipe.model) is not None:
        raise CompressionError(
            f"Component '{pipe.name}' writes with the pieces and word vectors of its encoder, which can't lose any then. Leave "
            'the vocabulary as it is, or train the component with another `vocabulary` than "source".'
        )


@singledispatch
def follow_pieces(pipe: Any, pieces: Sequence[int]) -> None:
    """Forget all pieces but these, as the encoder inside the component has done. Most components know none."""


@follow_pieces.register
def _(pipe: MaskedLanguageModel, pieces: Sequence[int]) -> None:
    pipe.model.set_param("vocab_b", pipe.model.get_param("vocab_b")[list(pieces)])
