"""What is done against large channels: nothing is lost by it, and more is kept."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spacy_distil.encoder import calibration
from spacy_distil.encoder.calibration import InputRange
from spacy_distil.encoder.int8 import Int8Product
from spacy_distil.encoder.model import get_shim
from tests.encoder.test_int8 import LARGEST, TEXTS, cosines, runs_here


def calibrate(shim, docs) -> calibration.Calibration:
    with shim.calibrate():
        shim.predict(docs)
    return shim.calibration


@torch.no_grad()
def heat_channels(shim) -> None:
    """Let two channels of each norm's output be large, and what they add to the products as small as before."""
    for layer in shim.encoder.layers:
        layer.sa_layer_norm.weight[[3, 17]] *= 32.0
        layer.ffn.lin1.weight[:, [3, 17]] /= 32.0


@torch.no_grad()
def heat_neurons(shim) -> None:
    """Let a neuron of each layer go far, with weights that are whole in int8, so that it is the inputs that rounding costs."""
    for layer in shim.encoder.layers:
        lin1, lin2 = layer.ffn.lin1, layer.ffn.lin2
        lin1.bias[9] += 60.0
        lin2.weight[:, 9] = lin2.weight.abs().amax(dim=1)
        lin2.bias -= 60.0 * lin2.weight[:, 9]


def test_dividing_inputs_and_multiplying_columns_is_exact():
    x, weight = torch.randn(5, 17), torch.randn(9, 17)
    powers = torch.ldexp(torch.ones(17), torch.arange(-8, 9))
    inputs = InputRange(-1.0, 1.0, powers=powers)
    # In pairs of factors, since a sum may be taken in another order elsewhere.
    assert torch.equal((x / powers)[:, None] * inputs.columns(weight), x[:, None] * weight)


def test_what_is_multiplied_comes_back_bit_by_bit(make_encoder, make_doc):
    shim = get_shim(make_encoder())
    heat_channels(shim)
    seen, weights = calibrate(shim, [make_doc(text) for text in TEXTS]), shim.encoder.state_dict()
    assert seen.exponents.any()
    multiplied = seen.multiplied(weights)
    changed = {name for name, value in multiplied.items() if not torch.equal(value, weights[name])}
    assert {name.removeprefix("transformer.layer.0.") for name in changed if ".layer.0." in name} == {
        "attention.q_lin.weight",
        "attention.k_lin.weight",
        "attention.v_lin.weight",
        "ffn.lin1.weight",
    }
    assert all(torch.equal(value, weights[name]) for name, value in seen.divided(multiplied).items())


def test_a_file_holds_all_of_it(make_encoder, make_doc):
    shim = get_shim(make_encoder())
    heat_neurons(shim)
    seen = calibrate(shim, [make_doc(text) for text in TEXTS])
    tensors = {"another": torch.zeros(1), **seen.to_tensors()}
    read = calibration.Calibration.pop(tensors, shim.encoder.config)
    assert tensors.keys() == {"another"}
    assert torch.equal(read.ranges, seen.ranges)
    assert torch.equal(read.exponents, seen.exponents)
    assert all(torch.equal(a, b) for a, b in zip(read.copies, seen.copies, strict=True))


def test_each_channel_is_rounded_by_its_own_step():
    inputs = InputRange(0.0, 25.5, powers=torch.tensor([1.0, 4.0, 0.5]))
    assert inputs.round(torch.tensor([[1.0, 1.0, 1.0], [25.5, 30.0, 25.5]])).tolist() == [[10, 3, 20], [255, 75, 255]]


def test_calibration_sees_what_goes_into_each_product(make_encoder, make_doc):
    shim = get_shim(make_encoder())
    docs = [make_doc(text) for text in TEXTS]
    with shim.calibrate():
        shim.predict(docs[:2])
        shim.predict(docs[2:])
    seen, states = shim.calibration, shim.predict(docs, layers=True).layers[0]
    n_layers = len(shim.encoder.config.layers)
    assert seen.ranges.shape == (n_layers, 4, 2)
    assert seen.ranges[:, :, 0].le(0).all()
    assert seen.ranges[:, :, 1].gt(0).all()
    assert seen.ranges[:, 3, 0].ge(-0.18).all()  # the least that gelu gives
    qkv = seen.inputs(0)[0]
    assert (states / qkv.powers).max() <= qkv.high * 1.01  # tokens are means of pieces
    assert (states / qkv.powers).min() >= qkv.low * 1.01


def test_the_largest_channels_are_divided_by_the_largest_powers(make_encoder, make_doc):
    shim = get_shim(make_encoder())
    heat_channels(shim)
    of_lin1 = calibrate(shim, [make_doc(text) for text in TEXTS]).exponents[:, 1]
    assert of_lin1[:, [3, 17]].min() > of_lin1.float().median()
    assert of_lin1.abs().max() <= 8


def test_the_farthest_neurons_are_cut_and_no_short_ones(make_encoder, make_doc):
    shim = get_shim(make_encoder())
    docs = [make_doc(text) for text in TEXTS]
    heat_neurons(shim)
    for number, copies in enumerate(calibrate(shim, docs).copies):
        assert copies[9] > 10
        assert len(copies) + 10 <= copies.sum() <= len(copies) + 16
        assert shim.calibration.inputs(number)[3].high * copies[9] > 55
    with torch.no_grad():
        for layer in shim.encoder.layers:
            layer.ffn.lin1.weight *= 0.01
            layer.ffn.lin1.bias.zero_()
    assert all(copies.eq(1).all() for copies in calibrate(shim, docs).copies)


@runs_here
@pytest.mark.parametrize(("activation", "bend"), [("relu", 0.0), ("gelu", 0.17)])
def test_the_copies_of_a_neuron_add_up_to_it(activation, bend):
    lin1, lin2 = nn.Linear(1, 2), nn.Linear(2, 1)
    with torch.no_grad():
        for parameter in (*lin1.parameters(), *lin2.parameters()):
            parameter.zero_()
        lin1.weight[0] = lin2.weight[0, 0] = 1.0
    x = torch.linspace(-5.0, 24.0, 1024)[:, None]
    neurons = InputRange(-0.17, 8.0, copies=torch.tensor([3, 1]))
    product = Int8Product([lin1], torch.float32, InputRange(-5.0, 24.0), neurons, LARGEST)
    rounded = product.activated(x, activation)
    assert rounded.shape == (1024, 4)
    sums = Int8Product([lin2], torch.float32, neurons, largest=LARGEST)(rounded)
    error = (sums - {"gelu": F.gelu, "relu": F.relu}[activation](x)).abs()
    assert error.max() < 0.1 + bend
    assert error[(x % 8 > 3) & (x % 8 < 5)].max() < 0.1  # away from where copies meet


@runs_here
@pytest.mark.parametrize(
    ("heat", "constant"), [(heat_channels, "STRENGTH"), (heat_neurons, "FURTHER_COPIES")], ids=["channels", "neurons"]
)
def test_large_channels_cost_less(make_encoder, make_doc, monkeypatch, heat, constant):
    docs = [make_doc(text) for text in TEXTS]

    def error() -> float:
        exact, model = make_encoder(), make_encoder(precision="int8")
        for of in (exact, model):
            heat(get_shim(of))
        calibrate(get_shim(model), docs)
        return float(1 - cosines(model.predict(docs), exact.predict(docs)).mean())

    with_it = error()
    monkeypatch.setattr(calibration, constant, 0)
    assert with_it < 0.5 * error()
