"""The mathematics of movement pruning, against finite differences and step by step."""

from __future__ import annotations

import pytest
import torch
from thinc.api import SGD, Adam
from torch import Tensor

from spacy_distil.compression.sparsity.criteria import Movement
from spacy_distil.compression.sparsity.patterns import Blocks, Pattern
from spacy_distil.encoder.module import DistilBertEncoder
from spacy_distil.encoder.packed import Packed
from spacy_distil.encoder.shim import DistilBertShim
from spacy_distil.encoder.zeros import prunable

PACKED = Packed.from_lists([[2, 7, 9, 3], [2, 5, 8, 11, 3]])


@pytest.fixture
def encoder(shim: DistilBertShim) -> DistilBertEncoder:
    return shim.encoder.double().eval()


def loss_of(encoder: DistilBertEncoder) -> Tensor:
    return encoder(PACKED, torch.float64)[-1].pow(2).mul(torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]).sum()


def plain_descent() -> SGD:
    return SGD(1.0, grad_clip=0.0, use_averages=False)


@pytest.mark.parametrize("pattern", [Blocks(), Blocks(1, 8)])
def test_gradient_of_a_score_is_that_of_its_mask(encoder: DistilBertEncoder, pattern: Pattern):
    """The straight-through estimator takes dL/dM for dL/dS. Weights are used as W * M, where M is 0 or 1."""
    weights = {name: p.detach().clone() for name, p in prunable(encoder, embeddings=True).items()}
    masks = {name: (torch.rand_like(pattern.pool(weight)) < 0.5).double() for name, weight in weights.items()}
    parameters = dict(encoder.named_parameters())

    def use(masks: dict[str, Tensor]) -> None:
        for name, weight in weights.items():
            parameters[name].data = weight * pattern.spread(masks[name])

    use(masks)
    loss_of(encoder).backward()
    gradients = {name: parameters[name].grad for name in weights}
    movement = Movement(pattern, plain_descent(), 0, {name: weight.float() for name, weight in weights.items()})
    movement.learn((name, gradients[name].float(), weights[name].float()) for name in weights)
    scores = movement.scores({})
    checked_pruned = False
    for name, mask in masks.items():
        # The block that matters most, one that is pruned, and a random one.
        largest = int(scores[name].abs().argmax())
        pruned = int((scores[name].abs() * (1 - mask)).argmax())
        for index in {largest, pruned, int(torch.randint(mask.numel(), ()))}:
            losses = []
            for step in (1e-4, -1e-4):
                moved = mask.clone()
                moved.view(-1)[index] += step
                use({**masks, name: moved})
                losses.append(loss_of(encoder).item())
            difference = (losses[0] - losses[1]) / 2e-4
            assert -float(scores[name].view(-1)[index]) == pytest.approx(difference, rel=1e-4, abs=1e-6), name
            checked_pruned |= mask.view(-1)[index] == 0 and abs(difference) > 1e-3
    assert checked_pruned


def test_scores_are_the_sum_of_movements():
    """S = -a * sum over steps of dL/dW' * W."""
    weights = [torch.randn(4, 6) for _ in range(5)]
    gradients = [torch.randn(4, 6) for _ in range(5)]
    movement = Movement(Blocks(), SGD(0.5, grad_clip=0.0, use_averages=False), 0, {"m": weights[0]})
    for gradient, weight in zip(gradients, weights, strict=True):
        movement.learn([("m", gradient, weight)])
    expected = -0.5 * sum(gradient * weight for gradient, weight in zip(gradients, weights, strict=True))
    torch.testing.assert_close(movement.scores({})["m"], expected)


def test_what_moves_away_from_zero_is_worth_more_than_what_moves_towards_it():
    weight = torch.tensor([[0.1, 2.0, -0.1, -2.0]])
    gradient = torch.tensor([[-1.0, 1.0, 1.0, -1.0]])  # the step goes the other way
    for optimizer in (plain_descent(), Adam(0.01, grad_clip=0.0, use_averages=False)):
        movement = Movement(Blocks(), optimizer, 0, {"m": weight})
        movement.learn([("m", gradient, weight)])
        small, large, small_negative, large_negative = movement.scores({})["m"][0]
        assert small > 0 > large
        assert small_negative > 0 > large_negative


@pytest.mark.parametrize("make", [plain_descent, lambda: Adam(0.01, grad_clip=0.0, use_averages=False)])
def test_state_goes_on_where_it_was(make):
    weight, gradients = torch.randn(4, 6), [torch.randn(4, 6) for _ in range(4)]
    whole, first, second = (Movement(Blocks(), make(), i, {"m": weight}) for i in range(3))
    for gradient in gradients:
        whole.learn([("m", gradient, weight)])
    for gradient in gradients[:2]:
        first.learn([("m", gradient, weight)])
    second.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()})
    for gradient in gradients[2:]:
        second.learn([("m", gradient, weight)])
    assert torch.equal(second.scores({})["m"], whole.scores({})["m"])
