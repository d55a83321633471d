"""How many weights of a pipeline's encoders are zero."""

from __future__ import annotations

from dataclasses import dataclass

from spacy.language import Language

from spacy_distil.compression.encoders import find_encoders
from spacy_distil.encoder.zeros import prunable


@dataclass
class Sparsity:
    """Of so many weights so many are zero."""

    weights: int = 0
    zeros: int = 0

    def add(self, other: Sparsity) -> None:
        self.weights += other.weights
        self.zeros += other.zeros

    @property
    def share(self) -> float:
        return self.zeros / self.weights


def measure_sparsity(nlp: Language) -> dict[str, Sparsity]:
    """For each kind of matrix in the encoders, `q_lin` to `lin2` and the embeddings, then for `encoder`, all of it with
    biases and norms.

    RAISES: CompressionError where there is no encoder.
    """
    kinds: dict[str, Sparsity] = {}
    all_of_it = Sparsity()
    for shim in find_encoders(nlp).values():
        matrices = prunable(shim.encoder, embeddings=True)
        for name, parameter in shim.encoder.named_parameters():
            counted = Sparsity(parameter.numel(), parameter.numel() - int(parameter.count_nonzero()))
            all_of_it.add(counted)
            if name in matrices:
                kinds.setdefault(name.split(".")[-2], Sparsity()).add(counted)
    embeddings = {kind: kinds.pop(kind) for kind in list(kinds) if kind.endswith("_embeddings")}
    return {**kinds, **embeddings, "encoder": all_of_it}
