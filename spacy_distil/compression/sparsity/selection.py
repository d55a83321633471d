"""Which weights are pruned, given their scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.sparsity.patterns import Pattern, read_pattern

ROUNDING = 1e-3  # a share of each matrix is a whole number of weights
Scope = Literal["local", "global"]


@dataclass(frozen=True)
class Selection:
    """sparsity: the share of the weights that are zero in the end.
    scope: `local`, that share of every matrix; `global`, of all together: scores are compared across matrices.
    pattern: what is pruned together.
    embeddings: words and positions are pruned too, and not the layers' matrices alone.
    """

    sparsity: float
    scope: Scope
    pattern: Pattern
    embeddings: bool

    @classmethod
    def read(
        cls, sparsity: float | None, *, scope: str = "local", pattern: str | None = None, embeddings: bool = False
    ) -> Selection:
        """Raises CompressionError for values that make no sense."""
        read = read_pattern(pattern)
        if sparsity is None:
            sparsity = read.sparsity
        if sparsity is None:
            raise CompressionError("No sparsity is given. It is the share of weights to prune, such as 0.6.")
        if isinstance(sparsity, bool) or not isinstance(sparsity, int | float) or not 0 <= sparsity < 1:
            raise CompressionError(
                f"sparsity = {sparsity!r}: it is the share of weights to prune, at least 0 and less than 1."
            )
        if read.sparsity is not None and abs(read.sparsity - sparsity) > 1e-3:
            raise CompressionError(
                f"sparsity = {sparsity} does not go with the pattern {read}, which prunes {read.sparsity:.4g} of the weights. "
                "Leave one of them out."
            )
        if scope not in get_args(Scope):
            raise CompressionError(f"scope = {scope!r} is not known. Known are {', '.join(get_args(Scope))}.")
        return cls(read.sparsity or float(sparsity), scope, read, embeddings)  # type: ignore[arg-type]

    def start(self, zeros: Mapping[str, Tensor], encoder: str) -> float:
        """The sparsity from which it goes on: the share of an encoder's weights that are zero already, at most all of its own.

        zeros: True for each weight that is to stay zero, for every matrix that is pruned.
        encoder: what to call it.
        Raises CompressionError where more are zero than would be pruned.
        """
        present = sum(int(zero.sum()) for zero in zeros.values()) / sum(zero.numel() for zero in zeros.values())
        if self.pattern.sparsity is None and present > self.sparsity + ROUNDING:
            raise CompressionError(
                f"{present:.4g} of the weights of the encoder in '{encoder}' are zero already, more than sparsity = "
                f"{self.sparsity:.4g}, and they stay zero. Set keep_zeros = false in its model to let them go."
            )
        return min(present, self.sparsity)

    def choose(self, scores: Mapping[str, Tensor], sparsity: float, zeros: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """True for each weight that is pruned: those that are zero already, and those with the lowest scores.

        scores: for each matrix those of its weights, or its blocks, as `pattern.pool` gives them.
        sparsity: the share to prune now, on the way to the last. Of all matrices together, each keeps its best weight or block.
        zeros: True for each weight that is to stay zero, where a matrix has some.
        Raises CompressionError where nothing would be left of a matrix that is not zero already.
        """
        alive = {name: self.pattern.pool((~zero).float()) > 0 for name, zero in zeros.items()}
        ranks = {
            name: self.pattern.rank(value.where(alive[name], -torch.inf) if name in alive else value)
            for name, value in scores.items()
        }
        if self.scope == "local":
            lowest = {name: _lowest(rank, sparsity) for name, rank in ranks.items()}
        else:
            together = _lowest(torch.cat([_keep_best(rank).flatten() for rank in ranks.values()]), sparsity)
            parts = together.split([rank.numel() for rank in ranks.values()])
            lowest = {name: part.view(rank.shape) for (name, rank), part in zip(ranks.items(), parts, strict=True)}
        pruned = {name: self.pattern.spread(units) for name, units in lowest.items()}
        for name, zero in zeros.items():
            pruned[name] = pruned[name] | zero
        for name, mask in pruned.items():
            if mask.all() and not (name in zeros and zeros[name].all()):
                raise CompressionError(
                    f"Nothing would be left of {name} at a sparsity of {sparsity:.4g}. Prune less"
                    + (", or with scope = local." if self.scope == "global" else ", or in smaller blocks.")
                )
        return pruned


def _keep_best(ranks: Tensor) -> Tensor:
    """The best of a matrix without a rank that any other could have; nothing of one that is zero."""
    best = ranks.flatten().argmax()
    if ranks.flatten()[best] == -torch.inf:
        return ranks
    return ranks.flatten().scatter(0, best, torch.inf).view(ranks.shape)


def _lowest(ranks: Tensor, share: float) -> Tensor:
    """True for so many of the lowest; among equals the first."""
    n = round(share * ranks.numel())
    if n == 0:
        return torch.zeros_like(ranks, dtype=torch.bool)
    flat = ranks.flatten()
    threshold = flat.kthvalue(n).values
    lowest = flat < threshold
    equal = (flat == threshold).nonzero()[: n - int(lowest.sum())]
    lowest[equal] = True
    return lowest.view(ranks.shape)
