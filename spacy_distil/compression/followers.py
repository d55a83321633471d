"""Components that know an encoder's pieces by number, and follow it when it loses some."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

from spacy_distil.pipeline.masked_lm.component import MaskedLanguageModel


@singledispatch
def follow_pieces(pipe: Any, pieces: Sequence[int]) -> None:
    """Forget all pieces but these, as the encoder inside the component has done. Most components know none."""


@follow_pieces.register
def _(pipe: MaskedLanguageModel, pieces: Sequence[int]) -> None:
    pipe.model.set_param("vocab_b", pipe.model.get_param("vocab_b")[list(pieces)])
