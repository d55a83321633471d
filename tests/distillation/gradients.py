"""The gradients that an update leaves in a component's weights."""

from collections.abc import Callable
from typing import Any

import numpy
import pytest


def gradients(pipe: Any) -> dict[tuple[int, str, str], numpy.ndarray]:
    return {
        (i, node.name, name): node.get_grad(name).copy()
        for i, node in enumerate(pipe.model.walk())
        for name in node.param_names
        if node.has_grad(name)
    }


def clear(pipe: Any) -> None:
    for node in pipe.model.walk():
        for name in node.param_names:
            if node.has_grad(name):
                node.set_grad(name, numpy.zeros_like(node.get_grad(name)))


def assert_gradients_equal(one: dict, other: dict, tolerance: float = 0.0) -> None:
    assert one.keys() == other.keys()
    for key, gradient in one.items():
        numpy.testing.assert_allclose(gradient, other[key], atol=tolerance, rtol=0, err_msg=str(key))


def assert_finite_differences(pipe: Any, loss: Callable[[], float], *, step: float = 5e-4) -> None:
    """Whether the gradient that `loss` leaves in each weight is its own derivative: along the gradient, where a difference is
    largest, and in a direction that has nothing to do with it."""
    clear(pipe)
    loss()
    parameters = [
        (node, name, node.get_param(name).copy(), node.get_grad(name).copy())
        for node in pipe.model.walk()
        for name in node.param_names
        if node.has_grad(name)
    ]
    assert any(gradient.any() for *_, gradient in parameters)
    rng = numpy.random.default_rng(0)
    for node, name, values, gradient in parameters:
        if (node.name, name) == ("precomputable_affine", "W") or not gradient.any():
            continue  # spaCy's own gradient of this W takes the last token's vector for every missing one
        along = gradient / numpy.linalg.norm(gradient)
        for direction in (along, along * rng.choice([-1, 1], size=values.shape)):
            differences = []
            for sign in (1, -1):
                node.set_param(name, (values + sign * step * direction).astype("f"))
                differences.append(sign * loss())
            node.set_param(name, values)
            expected = float((gradient * direction).sum())
            tolerance = 0.03 * float(numpy.linalg.norm(gradient)) + 1e-3
            assert sum(differences) / (2 * step) == pytest.approx(expected, abs=tolerance), (node.name, name)
