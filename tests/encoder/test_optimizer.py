"""The fused step is thinc's own optimiser."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from thinc.api import Optimizer
from torch import nn

from spacy_distil.encoder import optimizer as fused

SHAPES = {"weight": (7, 5), "bias": (7,), "embedding": (11, 3)}
MODEL = 42


def run(make, *, steps: int = 6, present=lambda step, name: True) -> None:
    """Steps on the same weights and gradients, ours and thinc's, side by side."""
    ours, theirs = make(), make()
    parameters = {name: nn.Parameter(torch.randn(shape)) for name, shape in SHAPES.items()}
    weights = {name: parameter.detach().numpy().copy() for name, parameter in parameters.items()}
    for step in range(steps):
        for name, parameter in parameters.items():
            if present(step, name):
                gradient = torch.randn(SHAPES[name]) * 10.0 ** (step % 3 - 1)
                parameter.grad = gradient.clone()
                weights[name], _ = theirs((MODEL, name), weights[name], gradient.numpy().copy())
        fused.step(ours, MODEL, parameters.items())
        ours.step_schedules()
        theirs.step_schedules()
        for name, parameter in parameters.items():
            assert parameter.grad is None
            np.testing.assert_allclose(parameter.detach().numpy(), weights[name], rtol=1e-5, atol=1e-5)
    assert_same_state(ours, theirs)


def assert_same_state(ours: Optimizer, theirs: Optimizer) -> None:
    assert dict(ours.nr_update) == dict(theirs.nr_update)
    states: list[tuple[Any, Any]] = [(ours.mom1, theirs.mom1), (ours.mom2, theirs.mom2)]
    assert (ours.averages is None) == (theirs.averages is None)
    if ours.averages is not None:
        states.append((ours.averages, theirs.averages))
    for mine, other in states:
        assert mine.keys() == other.keys()
        for key in other:
            np.testing.assert_allclose(mine[key].ravel(), other[key].ravel(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("L2", [0.0, 0.05])
@pytest.mark.parametrize("L2_is_weight_decay", [True, False])
@pytest.mark.parametrize("grad_clip", [0.0, 1.0])
def test_adam(L2, L2_is_weight_decay, grad_clip):
    run(lambda: Optimizer(0.05, L2=L2, L2_is_weight_decay=L2_is_weight_decay, grad_clip=grad_clip))


def test_a_large_eps_which_torch_and_thinc_place_unlike():
    run(lambda: Optimizer(0.05, eps=0.3, beta2=0.9))


def test_schedules():
    run(lambda: Optimizer([0.1, 0.05, 0.02], L2=[0.0, 0.1], beta1=0.8, grad_clip=[0.0, 0.5]))


def test_without_averages():
    run(lambda: Optimizer(0.05, use_averages=False))


def test_averages_over_many_steps():
    run(lambda: Optimizer(0.01), steps=40)


def test_radam():
    run(lambda: Optimizer(0.05, use_radam=True, L2=0.01, grad_clip=1.0), steps=12)


def test_plain_gradient_descent():
    run(lambda: Optimizer(0.05, beta1=0.0, beta2=0.0, L2=0.1))
    run(lambda: Optimizer(0.05, beta1=0.0, beta2=0.0, L2=0.1, L2_is_weight_decay=False, grad_clip=0.5))


@pytest.mark.parametrize("settings", [{}, {"use_radam": True}, {"beta1": 0.0, "beta2": 0.0}])
def test_parameters_keep_their_memory(settings):
    parameter = nn.Parameter(torch.ones(3))
    storage = parameter.untyped_storage()
    parameter.grad = torch.ones(3)
    fused.step(Optimizer(0.05, **settings), MODEL, [("weight", parameter)])
    assert parameter.untyped_storage() is storage


def test_parameters_that_join_later_and_pause():
    run(lambda: Optimizer(0.05), present=lambda step, name: name == "weight" or step > 2)
    run(lambda: Optimizer(0.05), present=lambda step, name: name == "weight" or step % 2 == 0)


def test_models_do_not_share_state():
    optimizer = Optimizer(0.05)
    for model in (1, 2):
        parameter = nn.Parameter(torch.ones(3))
        parameter.grad = torch.ones(3)
        fused.step(optimizer, model, [("weight", parameter)])
    assert dict(optimizer.nr_update) == {(1, "weight"): 1, (2, "weight"): 1}


def test_parameters_without_a_gradient_are_left_alone():
    optimizer, parameter = Optimizer(0.05, L2=0.5), nn.Parameter(torch.ones(3))
    fused.step(optimizer, MODEL, [("weight", parameter)])
    assert torch.equal(parameter.detach(), torch.ones(3))
    assert not optimizer.nr_update
