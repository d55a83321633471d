"""Pruning while a pipeline trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from thinc.api import Optimizer
from torch import Tensor, nn

from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.sparsity.criteria import Criterion, Magnitude, Movement
from spacy_distil.compression.sparsity.settings import Settings
from spacy_distil.encoder import optimizer as fused_optimizer
from spacy_distil.encoder.shim import DistilBertShim
from spacy_distil.encoder.zeros import Zeros, prunable


class Pruner(Zeros):
    """The zeros of an encoder whose sparsity rises along a schedule.

    At any moment the encoder holds its weights as they are used, with the zeros. Beside it are kept the values that weights had
    when they were pruned, so that they can come back as long as choices are made; and what the criterion has learnt. Both are
    given up when the last choice has been made, and from then on this is as any other encoder's zeros.

    step: the steps of the optimiser in which the encoder had a gradient.
    """

    def __init__(self, shim: DistilBertShim, settings: Settings, name: str) -> None:
        """name: what to call the encoder in errors, which are CompressionErrors."""
        super().__init__(dict(shim.zeros.pruned))
        selection = settings.selection
        parameters = {
            key: parameter
            for key, parameter in prunable(shim.encoder, embeddings=selection.embeddings).items()
            if parameter.requires_grad
        }
        if not parameters:
            raise CompressionError(
                f"The encoder in '{name}' is frozen: nothing of it can be pruned. Set freeze = none."
            )
        selection.pattern.check({key: parameter.shape for key, parameter in parameters.items()})
        self.settings = settings
        self.step = 0
        self._values = {key: parameter.detach().clone() for key, parameter in parameters.items()}
        self._before = {key: zero for key, zero in self.pruned.items() if key in parameters}
        self.pruned |= {
            key: torch.zeros_like(value, dtype=torch.bool)
            for key, value in self._values.items()
            if key not in self.pruned
        }
        self._initial = selection.start({key: self.pruned[key] for key in parameters}, name)
        self._criterion: Criterion = (
            Magnitude(selection.pattern)
            if settings.method == "magnitude"
            else Movement(selection.pattern, settings.make_optimizer(), shim.id, self._values)
        )
        self._has_gradient = False

    @property
    def progress(self) -> float:
        """How far it has come: 1 when the last choice has been made."""
        return min(1.0, self.step / self.settings.schedule.end)

    def __bool__(self) -> bool:
        return any(pruned.any() for pruned in self.pruned.values())

    def fixed(self) -> Zeros:
        return Zeros({name: pruned for name, pruned in self.pruned.items() if pruned.any()})

    def to(self, device: torch.device) -> None:
        raise CompressionError(
            "An encoder that is being pruned can't change its device. Move it before training starts."
        )

    def before_step(self, parameters: Mapping[str, nn.Parameter], optimizer: Optimizer, model_id: int) -> None:
        self._has_gradient = any(parameters[name].grad is not None for name in self._values)
        if self._has_gradient:
            self._criterion.learn(self._moves(parameters))
        super().before_step(parameters, optimizer, model_id)

    def after_step(self, parameters: Mapping[str, nn.Parameter], optimizer: Optimizer, model_id: int) -> None:
        if not self._has_gradient:
            return
        self.step += 1
        schedule = self.settings.schedule
        if schedule.chooses_at(self.step):
            pruned = self._choose(parameters, schedule.at(self.step, self._initial))
            for name, mask in pruned.items():
                returned = self.pruned[name] & ~mask
                fused_optimizer.start_averages(optimizer, (model_id, name), self._values[name], returned)
            self.pruned |= pruned
            self.apply(parameters)
            fused_optimizer.forget(optimizer, model_id, self.pruned)
        if self.step == schedule.end:
            self._finish()

    def _moves(self, parameters: Mapping[str, nn.Parameter]) -> Iterator[tuple[str, Tensor, Tensor]]:
        for name in self._values:
            gradient = parameters[name].grad
            if gradient is not None:
                yield name, gradient, self._unpruned(name, parameters)

    def _unpruned(self, name: str, parameters: Mapping[str, nn.Parameter]) -> Tensor:
        return torch.where(self.pruned[name], self._values[name], parameters[name].detach())

    @torch.no_grad()
    def _choose(self, parameters: Mapping[str, nn.Parameter], sparsity: float) -> dict[str, Tensor]:
        """Let all weights come back, and say which go."""
        self._values = {name: self._unpruned(name, parameters) for name in self._values}
        for name, value in self._values.items():
            parameters[name].copy_(value)
        return self.settings.selection.choose(self._criterion.scores(self._values), sparsity, self._before)

    def _finish(self) -> None:
        self._values, self._before = {}, {}
        self._criterion = Magnitude(self.settings.selection.pattern)

    # Resuming

    def state_dict(self) -> dict[str, Tensor]:
        state = {"step": torch.tensor(self.step)}
        for kind, tensors in (
            ("pruned", self.pruned),
            ("values", self._values),
            ("criterion", self._criterion.state_dict()),
        ):
            state |= {f"{kind}/{name}": tensor.cpu() for name, tensor in tensors.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.step = int(state["step"])
        self.pruned = {name: state[f"pruned/{name}"].to(pruned.device) for name, pruned in self.pruned.items()}
        if self.progress == 1.0:
            self._finish()
        for name, value in self._values.items():
            value.copy_(state[f"values/{name}"])
        prefix = "criterion/"
        self._criterion.load_state_dict({key[len(prefix) :]: t for key, t in state.items() if key.startswith(prefix)})
