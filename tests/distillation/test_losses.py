"""Every gradient against finite differences, in float64."""

import numpy
import pytest

from spacy_distil.distillation.losses import sigmoid_kl, sigmoid_logits, softmax_kl, softmax_logits


def finite_differences(loss, x, step=1e-6):
    gradient = numpy.zeros_like(x)
    for i in numpy.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        gradient[i] = (loss(up) - loss(down)) / (2 * step)
    return gradient


@pytest.fixture
def logits():
    rng = numpy.random.default_rng(0)
    return rng.normal(scale=3, size=(4, 5)), rng.normal(scale=3, size=(4, 5))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("loss", [softmax_kl, sigmoid_kl])
def test_gradient_equals_finite_differences(loss, temperature, logits):
    student, teacher = logits
    _, gradient = loss(student, teacher, temperature)
    expected = finite_differences(lambda x: loss(x, teacher, temperature)[0], student)
    numpy.testing.assert_allclose(gradient, expected, atol=1e-7)


@pytest.mark.parametrize("loss", [softmax_kl, sigmoid_kl])
def test_loss_is_zero_only_where_student_and_teacher_agree(loss, logits):
    student, teacher = logits
    value, gradient = loss(teacher, teacher, 2.0)
    assert value == pytest.approx(0)
    assert numpy.abs(gradient).max() == pytest.approx(0)
    assert loss(student, teacher, 2.0)[0] > 0


@pytest.mark.parametrize("loss", [softmax_kl, sigmoid_kl])
def test_loss_is_a_sum_over_rows(loss, logits):
    student, teacher = logits
    rows = [loss(student[i : i + 1], teacher[i : i + 1], 2.0)[0] for i in range(len(student))]
    assert loss(student, teacher, 2.0)[0] == pytest.approx(sum(rows))


def test_loss_equals_torchs(logits):
    import torch
    from torch.nn.functional import kl_div, log_softmax, softmax

    student, teacher = map(torch.from_numpy, logits)
    expected = 4 * kl_div(log_softmax(student / 2, dim=-1), softmax(teacher / 2, dim=-1), reduction="sum")
    assert softmax_kl(*logits, 2.0)[0] == pytest.approx(float(expected))


def test_temperature_needs_probabilities_only(logits):
    student, teacher = logits
    exp = numpy.exp(student), numpy.exp(teacher)
    probabilities = [e / e.sum(axis=1, keepdims=True) for e in exp]
    value, gradient = softmax_kl(*map(softmax_logits, probabilities), 2.0)
    assert value == pytest.approx(softmax_kl(student, teacher, 2.0)[0])
    numpy.testing.assert_allclose(gradient, softmax_kl(student, teacher, 2.0)[1], atol=1e-9)


def test_sigmoid_logits_are_the_inverse_of_the_sigmoid(logits):
    numpy.testing.assert_allclose(sigmoid_logits(1 / (1 + numpy.exp(-logits[0]))), logits[0], atol=1e-6)


@pytest.mark.parametrize(("loss", "to_logits"), [(softmax_kl, softmax_logits), (sigmoid_kl, sigmoid_logits)])
def test_certainty_gives_finite_numbers(loss, to_logits):
    student = numpy.array([[1, 0], [0, 1]], dtype="f")
    teacher = numpy.array([[0, 1], [0, 1]], dtype="f")
    value, gradient = loss(to_logits(student), to_logits(teacher), 1.0)
    assert numpy.isfinite(value)
    assert value > 10
    numpy.testing.assert_allclose(gradient, student - teacher, atol=1e-6)
    value, gradient = loss(1e4 * student, 1e4 * teacher, 2.0)
    assert numpy.isfinite(value)
    assert numpy.isfinite(gradient).all()
