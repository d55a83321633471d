"""What a weight is worth: its magnitude, or its movement while it is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, cast

import torch
from thinc.api import Optimizer
from thinc.types import FloatsXd
from thinc.util import torch2xp, xp2torch
from torch import Tensor, nn

from spacy_distil.compression.sparsity.patterns import Pattern
from spacy_distil.encoder import optimizer as fused_optimizer


class Criterion(Protocol):
    def learn(self, moves: Iterable[tuple[str, Tensor, Tensor]]) -> None:
        """Take in a step of training.

        moves: for each matrix its name, the gradient of the loss with respect to its weights as they were used, those of pruned
            ones too, and the weights as they would be, were none of them pruned.
        """

    def scores(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """For each matrix the scores of its weights, or of its blocks."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


class Magnitude:
    """|W|, of a block the sum (Zhu & Gupta 2017, section 3; Sanh et al. 2020, section 3)."""

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern

    def learn(self, moves: Iterable[tuple[str, Tensor, Tensor]]) -> None:
        pass

    def scores(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.pattern.pool(weight.abs()) for name, weight in weights.items()}

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        pass


class Movement:
    """Movement pruning (Sanh et al. 2020, section 4): the weights are used as W' = W * top(S), and scores S are learnt. With
    `top` passed straight through in the backward pass, dL/dS = dL/dW' * W: what moves away from zero rises, what moves towards
    it falls.

    optimizer: learns the scores from that gradient. Plain gradient descent gives the paper's S = -a * sum of dL/dW' * W.
    model_id: the encoder's, by which the optimiser knows them.
    """

    def __init__(self, pattern: Pattern, optimizer: Optimizer, model_id: int, weights: Mapping[str, Tensor]) -> None:
        self.pattern, self.optimizer, self._model_id = pattern, optimizer, model_id
        self._scores = {name: nn.Parameter(torch.zeros_like(pattern.pool(weight))) for name, weight in weights.items()}

    def learn(self, moves: Iterable[tuple[str, Tensor, Tensor]]) -> None:
        for name, gradient, weight in moves:
            self._scores[name].grad = self.pattern.pool(gradient * weight)
        fused_optimizer.step(self.optimizer, self._model_id, self._scores.items())
        self.optimizer.step_schedules()

    def scores(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: scores.detach() for name, scores in self._scores.items()}

    def state_dict(self) -> dict[str, Tensor]:
        optimizer = self.optimizer
        state = {}
        for name, scores in self._scores.items():
            state[f"scores/{name}"] = scores.detach()
            for kind, arrays in (("mom1", optimizer.mom1), ("mom2", optimizer.mom2)):
                if (self._model_id, name) in arrays:
                    state[f"{kind}/{name}"] = xp2torch(arrays[self._model_id, name])
            state[f"updates/{name}"] = torch.tensor(optimizer.nr_update[self._model_id, name])
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        optimizer = self.optimizer
        for name, scores in self._scores.items():
            key = (self._model_id, name)
            scores.data.copy_(state[f"scores/{name}"])
            for kind, arrays in (("mom1", optimizer.mom1), ("mom2", optimizer.mom2)):
                if f"{kind}/{name}" in state:
                    arrays[key] = cast(FloatsXd, torch2xp(state[f"{kind}/{name}"].to(scores.device)))
            optimizer.nr_update[key] = int(state[f"updates/{name}"])
        for _ in range(max(optimizer.nr_update.values(), default=0)):
            optimizer.step_schedules()
