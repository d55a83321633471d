"""thinc's optimiser on torch parameters, in one fused pass over all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import cast

import torch
from thinc.api import Optimizer, get_current_ops
from thinc.types import FloatsXd
from thinc.util import torch2xp, xp2torch
from torch import Tensor, nn

Key = tuple[int, str]


def step(optimizer: Optimizer, model_id: int, parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
    """Update the parameters that have a gradient, and drop the gradients.

    The state (moments, counts, averages) is thinc's own, under the keys `(model_id, name)`, and the result is thinc's to
    rounding. What bounds it is memory: thinc's own Adam walks 66 M parameters on one thread, torch's fused Adam on all.
    """
    trained = [(name, parameter) for name, parameter in parameters if parameter.grad is not None]
    if optimizer.use_radam or not (optimizer.b1 > 0.0 and optimizer.b2 > 0.0):
        _step_by_thinc(optimizer, model_id, trained)
    else:
        _step_fused(optimizer, model_id, trained)
    for _, parameter in trained:
        parameter.grad = None


def forget(optimizer: Optimizer, model_id: int, pruned: Mapping[str, Tensor]) -> None:
    """Set moments and averages of weights to zero: those where `pruned` has True, by the parameters' names."""
    for arrays in (optimizer.mom1, optimizer.mom2, optimizer.averages or {}):
        for name, mask in pruned.items():
            if (model_id, name) in arrays:
                xp2torch(arrays[model_id, name], device=mask.device).view_as(mask).masked_fill_(mask, 0.0)


def start_averages(optimizer: Optimizer, key: Key, values: Tensor, where: Tensor) -> None:
    """Let the averages of those weights of a parameter where `where` has True start anew, from values of its shape."""
    if optimizer.averages is not None and key in optimizer.averages:
        averages = xp2torch(optimizer.averages[key], device=values.device).view_as(values)
        averages[where] = values[where]


@torch.no_grad()
def _step_by_thinc(optimizer: Optimizer, model_id: int, trained: list[tuple[str, nn.Parameter]]) -> None:
    for name, parameter in trained:
        assert parameter.grad is not None
        weights, _ = optimizer(
            (model_id, name), cast(FloatsXd, torch2xp(parameter.data)), cast(FloatsXd, torch2xp(parameter.grad))
        )
        # A tensor made of the array would hold the one before, step after step, and the heap would fall to pieces between.
        parameter.copy_(xp2torch(weights, device=parameter.device))


@torch.no_grad()
def _step_fused(optimizer: Optimizer, model_id: int, trained: list[tuple[str, nn.Parameter]]) -> None:
    # Parameters that were frozen for a while have seen fewer updates: their bias corrections differ.
    groups: dict[int, list[tuple[Key, nn.Parameter]]] = defaultdict(list)
    for name, parameter in trained:
        key = (model_id, name)
        optimizer.nr_update[key] += 1
        groups[optimizer.nr_update[key]].append((key, parameter))
    for n_updates, group in groups.items():
        parameters: list[Tensor] = [parameter for _, parameter in group]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if optimizer.L2 and not optimizer.L2_is_weight_decay:
            torch._foreach_add_(gradients, parameters, alpha=optimizer.L2)
        if optimizer.grad_clip:
            _clip(gradients, optimizer.grad_clip)
        _adam(optimizer, group, n_updates)
        if optimizer.averages is not None:
            _average(optimizer, group, n_updates)


def _clip(gradients: list[Tensor], threshold: float) -> None:
    """thinc clips each parameter's gradient by its own norm."""
    for gradient, norm in zip(gradients, torch.stack(torch._foreach_norm(gradients)).tolist(), strict=True):
        if norm >= threshold:
            gradient.mul_(threshold / norm)


def _adam(optimizer: Optimizer, group: list[tuple[Key, nn.Parameter]], n_updates: int) -> None:
    # thinc adds eps before the bias correction of the second moment and decays after the step, torch the other way
    # round in both; these values make them the same.
    decay = optimizer.learn_rate * optimizer.L2 if optimizer.L2_is_weight_decay else 0.0
    adam = torch.optim.AdamW(
        [parameter for _, parameter in group],
        lr=optimizer.learn_rate * (1.0 - decay),
        betas=(optimizer.b1, optimizer.b2),
        eps=optimizer.eps / (1.0 - optimizer.b2**n_updates) ** 0.5,
        weight_decay=optimizer.L2 / (1.0 - decay) if decay else 0.0,
        fused=True,
    )
    ops = get_current_ops()
    for key, parameter in group:
        for moments in (optimizer.mom1, optimizer.mom2):
            if key not in moments:
                moments[key] = ops.alloc1f(parameter.numel())
        adam.state[parameter] = {
            "step": torch.tensor(float(n_updates - 1), device=parameter.device),
            "exp_avg": xp2torch(optimizer.mom1[key], device=parameter.device).view_as(parameter),
            "exp_avg_sq": xp2torch(optimizer.mom2[key], device=parameter.device).view_as(parameter),
        }
    adam.step()


def _average(optimizer: Optimizer, group: list[tuple[Key, nn.Parameter]], n_updates: int) -> None:
    assert optimizer.averages is not None
    decay = min((1.0 + n_updates) / (10.0 + n_updates), 0.9999)
    ops = get_current_ops()
    for key, parameter in group:
        if key not in optimizer.averages:
            optimizer.averages[key] = ops.alloc_f(parameter.shape)
        xp2torch(optimizer.averages[key], device=parameter.device).lerp_(parameter.data, 1.0 - decay)
