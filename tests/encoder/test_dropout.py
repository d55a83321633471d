"""Dropout: what falls out, what stays, and what flows back."""

from __future__ import annotations

import pytest
import torch

from spacy_distil.encoder.dropout import dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_it_drops_at_its_rate_and_keeps_the_mean(rate: float) -> None:
    x = torch.ones(1000, 999)
    y = dropout(x, rate)
    assert (y == 0).float().mean().item() == pytest.approx(rate, abs=0.003)
    assert y.mean().item() == pytest.approx(1.0, abs=0.02)
    assert len(y.unique()) == 2


def test_elements_fall_out_independently() -> None:
    y = dropout(torch.ones(4, 250_000), 0.5) == 0
    # Four elements share a random number: neighbours must still differ as often as not.
    for step in (1, 2, 3, 4):
        assert (y[:, step:] == y[:, :-step]).float().mean().item() == pytest.approx(0.5, abs=0.005)


def test_gradients_flow_where_values_did() -> None:
    x = torch.randn(50, 7, requires_grad=True)
    y = dropout(x, 0.3)
    y.sum().backward()
    torch.testing.assert_close(x.grad * x.detach(), y.detach())


def test_a_seed_draws_it_again() -> None:
    x = torch.randn(30, 11)
    torch.manual_seed(3)
    first = dropout(x, 0.4)
    torch.manual_seed(3)
    torch.testing.assert_close(dropout(x, 0.4), first)
    assert not torch.equal(dropout(x, 0.4), first)


def test_none_and_all() -> None:
    x = torch.randn(5, 3)
    assert dropout(x, 0.0) is x
    assert dropout(x, 0.5, training=False) is x
    assert not dropout(x, 1.0).any()
    assert dropout(torch.zeros(0, 3), 0.5).shape == (0, 3)
