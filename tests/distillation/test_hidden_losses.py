"""Losses between hidden states: every gradient against finite differences, in float64, and every value against torch's."""

import pytest
import torch
import torch.nn.functional as F

from spacy_distil.distillation.hidden_states import losses as hidden_losses
from spacy_distil.distillation.hidden_states.losses import cosine, mean_square, relations

LENGTHS = [4, 0, 1, 3]


@pytest.fixture
def states() -> tuple[torch.Tensor, torch.Tensor]:
    """Two layers, eight tokens."""
    return torch.randn(2, 8, 6, dtype=torch.float64), torch.randn(2, 8, 6, dtype=torch.float64)


def of_relations(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return relations(student, teacher, LENGTHS, n_heads=3)


LOSSES = pytest.mark.parametrize("loss", [cosine, mean_square, of_relations])


@LOSSES
def test_gradient_equals_finite_differences(loss, states):
    student, teacher = states
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), student.requires_grad_())
    assert float(torch.autograd.grad(loss(student, teacher), student)[0].abs().max()) > 1e-3


@LOSSES
def test_loss_is_zero_only_where_student_and_teacher_agree(loss, states):
    student, teacher = states
    assert float(loss(teacher, teacher)) == pytest.approx(0)
    assert float(loss(student, teacher)) > 0.1


@LOSSES
def test_loss_is_a_sum_over_tokens_and_a_mean_over_layers(loss, states):
    student, teacher = states
    total = float(loss(student, teacher))
    assert float(loss(student[[0, 0, 1, 1]], teacher[[0, 0, 1, 1]])) == pytest.approx(total)
    one, other = (float(loss(student[i : i + 1], teacher[i : i + 1])) for i in (0, 1))
    assert (one + other) / 2 == pytest.approx(total)
    if loss is of_relations:
        alone = [relations(s, t, [s.shape[1]], 3) for s, t in zip(*(x.split(LENGTHS, 1) for x in states), strict=True)]
    else:
        alone = [loss(student[:, i : i + 1], teacher[:, i : i + 1]) for i in range(8)]
    assert float(sum(alone)) == pytest.approx(total)


def test_values_equal_torchs(states):
    student, teacher = (x.flatten(0, 1) for x in states)
    ones = torch.ones(len(student))
    expected = F.cosine_embedding_loss(student, teacher, ones, reduction="sum") / 2
    assert float(cosine(*states)) == pytest.approx(float(expected))
    expected = F.mse_loss(*states, reduction="sum") / (2 * 6)
    assert float(mean_square(*states)) == pytest.approx(float(expected))


def test_relations_equal_attention_weights_of_each_head_and_document(states):
    student, teacher = states
    expected = 0.0
    for layer in range(2):
        for s, t in zip(student[layer].split(LENGTHS), teacher[layer].split(LENGTHS), strict=True):
            for head in range(3):
                a, b = (x[:, 2 * head : 2 * head + 2] for x in (s, t))
                log_q, log_p = ((x @ x.T / 2**0.5).log_softmax(1) for x in (a, b))
                expected += float(F.kl_div(log_q, log_p, reduction="sum", log_target=True)) / (2 * 3)
    assert float(of_relations(student, teacher)) == pytest.approx(expected)


def test_relations_need_no_common_width(states):
    student, teacher = states
    wide = torch.cat([teacher, teacher.flip(2)], dim=2)
    assert float(relations(student, wide, LENGTHS, 3)) > 0


def test_a_long_document_is_compared_chunk_by_chunk(states, monkeypatch):
    student, teacher = states
    monkeypatch.setattr(hidden_losses, "CHUNK", 3)
    assert float(relations(student, teacher, [8], 3)) == pytest.approx(float(relations(student, teacher, [3, 3, 2], 3)))
