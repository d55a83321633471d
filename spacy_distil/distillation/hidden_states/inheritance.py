"""A student's encoder starts from its teacher's: its embeddings, and the layers that teach its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spacy_distil.distillation.errors import DistillationError, TeacherError
from spacy_distil.encoder.checkpoint import POSITIONS, TYPES, convert
from spacy_distil.encoder.config import EncoderConfig
from spacy_distil.errors import CheckpointError
from spacy_distil.pipeline.distilbert import DistilBert

WORDS = "embeddings.word_embeddings.weight"


@dataclass(frozen=True)
class Inheritance:
    """What a student has taken over.

    parameters: their number, of `of_parameters`.
    pieces: the rows of the student's vocabulary that came from the teacher's, of `of_pieces`.
    layers: pairs of a student's layer and the teacher's that it is a copy of, counted from 1.
    """

    parameters: int
    of_parameters: int
    pieces: int
    of_pieces: int
    layers: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        layers = ", ".join(f"{student} from {teacher}" for student, teacher in self.layers) or "none"
        return (
            f"{self.parameters:,} of the encoder's {self.of_parameters:,} parameters come from the teacher's: "
            f"{self.pieces:,} of {self.of_pieces:,} word pieces, layers {layers}"
        )


def inherit(student: Any, teacher: Any, layers: Sequence[tuple[int, int]]) -> Inheritance:
    """Overwrite a student's encoder with its teacher's, as far as their shapes agree.

    Pieces are known by what they spell, so that vocabularies may differ. The first row of a BERT's token types goes to its
    positions, as in DistilBERT's own initialisation (Sanh et al. 2019, section 3).

    student: a `distilbert`.
    teacher: a `distilbert`, or spacy-transformers' `transformer` around a BERT or DistilBERT.
    layers: pairs of a student's layer and a teacher's, counted from 1, see `states.pair_layers`.
    RAISES: DistillationError for another student, TeacherError for another teacher.
    """
    if not isinstance(student, DistilBert):
        raise DistillationError(
            f"The student's '{student.name}' is a {type(student).__name__}, which can't inherit an encoder. Use a distilbert, "
            "or set inherit = false."
        )
    config, weights, vocabulary = _read(teacher)
    own = student.shim.encoder
    inherited: dict[str, Tensor] = {}
    n_rows: dict[str, int] = {}
    if config.width == own.config.width:
        inherited, n_rows = _embeddings(weights, vocabulary, own.state_dict(), _vocabulary(student))
    copied = [(i, j) for i, j in sorted(dict(layers).items()) if i and j and _same_shape(own.config, i, config, j)]
    for i, j in copied:
        prefix = f"transformer.layer.{j - 1}."
        inherited |= {
            f"transformer.layer.{i - 1}.{name[len(prefix) :]}": value
            for name, value in weights.items()
            if name.startswith(prefix)
        }
    student.shim.overwrite(inherited)
    return Inheritance(
        parameters=sum(value[: n_rows.get(name)].numel() for name, value in inherited.items()),
        of_parameters=sum(parameter.numel() for parameter in own.parameters()),
        pieces=n_rows.get(WORDS, 0),
        of_pieces=own.config.vocab_size,
        layers=tuple(copied),
    )


def _read(teacher: Any) -> tuple[EncoderConfig, dict[str, Tensor], dict[str, int]]:
    """The shape of a teacher's encoder, its weights by our names, and the rows of its pieces."""
    if isinstance(teacher, DistilBert):
        return teacher.shim.encoder.config, teacher.shim.encoder.state_dict(), _vocabulary(teacher)
    transformer = getattr(teacher.model, "transformer", None)
    if transformer is None:
        raise TeacherError(
            f"The teacher's '{teacher.name}' is a {type(teacher).__name__}, from which no encoder can be inherited. Use a "
            "distilbert or a transformer, or set inherit = false."
        )
    try:
        config = EncoderConfig.from_hf(transformer.config.to_dict(), where=f"The teacher's '{teacher.name}'")
        return *convert(config, transformer.state_dict(), teacher.name), teacher.model.tokenizer.get_vocab()
    except CheckpointError as error:
        raise TeacherError(f"{error} Nothing can be inherited: set inherit = false.") from None


def _vocabulary(pipe: DistilBert) -> dict[str, int]:
    return pipe.shim.tokenizer.tokenizer.get_vocab(with_added_tokens=True)


def _embeddings(
    theirs: dict[str, Tensor], their_pieces: dict[str, int], ours: dict[str, Tensor], our_pieces: dict[str, int]
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """The student's embeddings with the teacher's in them, and the number of rows of those that may have but some."""
    common = [(row, their_pieces[piece]) for piece, row in our_pieces.items() if piece in their_pieces]
    rows, their_rows = [row for row, _ in common], [row for _, row in common]
    words, positions, their_positions = ours[WORDS].clone(), _folded(ours).clone(), _folded(theirs)
    words[rows] = theirs[WORDS][their_rows].to(words)
    n_positions = min(len(positions), len(their_positions))
    positions[:n_positions] = their_positions[:n_positions]
    inherited = {name: value for name, value in theirs.items() if name.startswith("embeddings.LayerNorm.")}
    inherited |= {WORDS: words, POSITIONS: positions}
    if TYPES in ours:
        types = torch.zeros_like(ours[TYPES])
        if TYPES in theirs:
            n_types = min(len(types), len(theirs[TYPES]))
            types[:n_types] = theirs[TYPES][:n_types] - theirs[TYPES][0]
        inherited[TYPES] = types
    return inherited, {WORDS: len(common), POSITIONS: n_positions}


def _folded(weights: dict[str, Tensor]) -> Tensor:
    """The positions, with the first of a BERT's token types in them."""
    return weights[POSITIONS] + weights[TYPES][0] if TYPES in weights else weights[POSITIONS]


def _same_shape(ours: EncoderConfig, i: int, theirs: EncoderConfig, j: int) -> bool:
    same_width = (ours.width, ours.head_width) == (theirs.width, theirs.head_width)
    return same_width and ours.layers[i - 1] == theirs.layers[j - 1]
