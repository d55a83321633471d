"""Weights that were pruned, and stay zero while the others learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from thinc.api import Optimizer
from torch import Tensor, nn

from spacy_distil.encoder import optimizer as fused_optimizer
from spacy_distil.encoder.module import DistilBertEncoder

EMBEDDINGS = ("embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight")


def prunable(encoder: DistilBertEncoder, *, embeddings: bool) -> dict[str, nn.Parameter]:
    """The matrices of the layers, and those of words and positions: never biases, norms, token types or the pooler."""
    return {
        name: parameter
        for name, parameter in encoder.named_parameters()
        if (name in EMBEDDINGS and embeddings) or (name.startswith("transformer.") and parameter.dim() == 2)
    }


@dataclass(eq=False)
class Zeros:
    """Which weights of an encoder stay zero.

    pruned: for each matrix that has some, by the parameter's name, True where a weight is pruned.
    """

    pruned: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._optimizer: int | None = None

    @classmethod
    def of(cls, encoder: DistilBertEncoder, *, embeddings: bool) -> Zeros:
        """All that are zero now, in the layers alone or in the embeddings too."""
        zeros = {name: parameter.detach() == 0 for name, parameter in prunable(encoder, embeddings=embeddings).items()}
        return cls({name: zero for name, zero in zeros.items() if zero.any()})

    def __bool__(self) -> bool:
        return bool(self.pruned)

    @property
    def of_embeddings(self) -> bool:
        """Whether some are in the embeddings."""
        return any(name in EMBEDDINGS for name in self.pruned)

    def fixed(self) -> Zeros:
        """The same zeros, as they are from now on for a copy of the encoder."""
        return Zeros(self.pruned)

    def to(self, device: torch.device) -> None:
        self.pruned = {name: pruned.to(device) for name, pruned in self.pruned.items()}

    @torch.no_grad()
    def apply(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Set the weights to zero."""
        for name, pruned in self.pruned.items():
            parameters[name].masked_fill_(pruned, 0.0)

    def before_step(self, parameters: Mapping[str, nn.Parameter], optimizer: Optimizer, model_id: int) -> None:
        """Take the pruned weights out of the gradients, and out of what an optimiser knows of the time before them: its step
        then leaves them at zero."""
        for name, pruned in self.pruned.items():
            gradient = parameters[name].grad
            if gradient is not None:
                gradient.masked_fill_(pruned, 0.0)
        if self._optimizer != id(optimizer):  # one that has taken its place in memory has nothing to forget
            fused_optimizer.forget(optimizer, model_id, self.pruned)
            self._optimizer = id(optimizer)

    def after_step(self, parameters: Mapping[str, nn.Parameter], optimizer: Optimizer, model_id: int) -> None:
        """Called once the optimiser has stepped."""

    def state_dict(self) -> dict[str, Tensor]:
        """What a run that is resumed could not find in the weights."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state_dict` has given."""
