"""Pruning in one go, of a pipeline that has been trained."""

from __future__ import annotations

from spacy.language import Language

from spacy_distil.compression.encoders import check_trainable, find_encoders
from spacy_distil.compression.requirements import require_format
from spacy_distil.compression.sparsity.criteria import Magnitude
from spacy_distil.compression.sparsity.selection import Selection
from spacy_distil.encoder.checkpoint import SPARSE_FORMAT
from spacy_distil.encoder.shim import DistilBertShim
from spacy_distil.encoder.zeros import Zeros, prunable


def prune(nlp: Language, selection: Selection) -> None:
    """Set the smallest weights of a pipeline's encoders to zero, where they stay when it is trained on. No data is needed.

    RAISES: CompressionError where the selection does not fit, and for an encoder in int8, before anything is changed.
    """
    encoders = find_encoders(nlp)
    check_trainable(encoders)
    chosen = [(shim, _choose(shim, name, selection)) for name, shim in encoders.items()]
    for shim, zeros in chosen:
        shim.keep_zero(zeros)
    nlp.meta["performance"] = {}  # the scores were those of all weights
    require_format(nlp, SPARSE_FORMAT)


def _choose(shim: DistilBertShim, name: str, selection: Selection) -> Zeros:
    matrices = {
        key: parameter.detach() for key, parameter in prunable(shim.encoder, embeddings=selection.embeddings).items()
    }
    selection.pattern.check({key: matrix.shape for key, matrix in matrices.items()})
    zeros = {key: matrix == 0 for key, matrix in matrices.items()}
    selection.start(zeros, name)
    pruned = selection.choose(Magnitude(selection.pattern).scores(matrices), selection.sparsity, zeros)
    return Zeros({**shim.zeros.pruned, **{key: mask for key, mask in pruned.items() if mask.any()}})
