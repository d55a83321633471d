"""Matrix products in int8 beside the same in whole numbers, and encoders that run so beside float32."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from thinc.api import Adam
from torch import nn

from spacy_distil.encoder.calibration import InputRange
from spacy_distil.encoder.int8 import LARGEST_OF_PAIRS, Int8Product, largest_weight
from spacy_distil.encoder.model import get_shim
from spacy_distil.encoder.precision import resolve_precision
from spacy_distil.encoder.storage import dequantize_rows, quantize_rows
from spacy_distil.errors import EncoderError

LARGEST = largest_weight() or 0
runs_here = pytest.mark.skipif(not LARGEST, reason="no int8 products on this processor")
TEXTS = ["the film", "a film was good and the staff were kind", "", "bad", "the room was not good " * 9]


@pytest.fixture
def layers() -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(24, 16), nn.Linear(24, 8)]


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(7, 24, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.1, 9, 24)


def rounded_product(x: torch.Tensor, layers: list[nn.Linear]) -> torch.Tensor:
    """x W^T + b for an x that is rounded already."""
    weight = dequantize_rows(*quantize_rows(torch.cat([layer.weight for layer in layers]), LARGEST))
    return F.linear(x, weight, torch.cat([layer.bias for layer in layers])).detach()


def rounded(x: torch.Tensor, inputs: InputRange) -> torch.Tensor:
    return (inputs.round(x).float() - inputs.zero) * inputs.scale


def test_a_range_rounds_to_the_nearest_of_256_and_cuts_off_what_is_beyond():
    inputs = InputRange(-1.0, 4.1)
    x = torch.tensor([-3.0, -1.0, 0.0, 0.0101, 2.0, 4.1, 7.0])
    assert inputs.round(x).tolist() == [0, 0, 50, 51, 150, 255, 255]
    assert rounded(torch.zeros(1), inputs).item() == 0.0


@runs_here
def test_static_products_are_those_of_the_rounded_numbers(layers, x):
    inputs = InputRange(x.min().item(), x.max().item())
    product = Int8Product(layers, torch.float32, inputs, largest=LARGEST)
    expected = rounded_product(rounded(x, inputs), layers)
    torch.testing.assert_close(product(x), expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(product.activated(x, "gelu"), F.gelu(expected), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(product.activated(x, "relu"), F.relu(expected), rtol=1e-5, atol=1e-4)
    residual = torch.randn(7, 24)
    before = residual.clone()
    torch.testing.assert_close(product.add(x, residual), expected + residual, rtol=1e-5, atol=1e-4)
    assert torch.equal(residual, before)


@runs_here
@pytest.mark.parametrize("largest", sorted({LARGEST, LARGEST_OF_PAIRS}))
def test_the_largest_sums_are_whole(largest):
    """Without VNNI products with larger weights are cut off in 16 bits."""
    layer = nn.Linear(384, 8)
    with torch.no_grad():  # `largest` times a power of two, which is a scale that is not rounded
        layer.weight.copy_(torch.tensor([1.0, -1.0]).repeat(4)[:, None].expand(8, 384)).mul_(largest / 128)
    x = torch.ones(3, 384)
    x[:, 0] = 0.0
    for inputs in (InputRange(0.0, 1.0), None):
        torch.testing.assert_close(Int8Product([layer], torch.float32, inputs, largest=largest)(x), layer(x))


@runs_here
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_neurons_come_rounded_and_go_on_so(layers, x, activation):
    neurons = InputRange(-0.2, 12.0)
    product = Int8Product(layers, torch.float32, InputRange(-30.0, 30.0), neurons, LARGEST)
    plain = Int8Product(layers, torch.float32, InputRange(-30.0, 30.0), largest=LARGEST).activated(x, activation)
    result = product.activated(x, activation)
    assert result.dtype == torch.uint8
    steps = result.int() - neurons.round(plain).int()
    assert steps.abs().max() <= 1  # where the two round a half differently
    assert steps.eq(0).float().mean() > 0.98
    after = Int8Product([nn.Linear(24, 24)], torch.float32, neurons, largest=LARGEST)
    torch.testing.assert_close(after(neurons.round(plain)), after(plain))


@runs_here
def test_dynamic_products_round_each_row_by_itself(layers, x):
    product = Int8Product(layers, torch.float32, largest=LARGEST)
    x[3] = 0.0
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    step = ((high - low) / 255).clamp(min=1e-12)
    expected = rounded_product(((x - low) / step + 0.5).floor() * step + low, layers)
    torch.testing.assert_close(product(x), expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(product(x[2:3]), product(x)[2:3], rtol=1e-6, atol=1e-6)
    residual = torch.randn(7, 24)
    torch.testing.assert_close(product.add(x, residual), expected + residual, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(product.activated(x, "gelu"), F.gelu(expected), rtol=1e-4, atol=1e-3)


def cosines(one, other) -> torch.Tensor:
    pairs = [(torch.from_numpy(a), torch.from_numpy(b)) for a, b in zip(one, other, strict=True)]
    return torch.cat([F.cosine_similarity(a, b) for a, b in pairs])


@runs_here
@pytest.mark.parametrize("calibrated", [False, True])
def test_an_encoder_in_int8_stays_near_float32_and_away_from_its_batch(make_encoder, make_doc, calibrated):
    docs = [make_doc(text) for text in TEXTS]
    exact, model = make_encoder().predict(docs), make_encoder(precision="int8")
    if calibrated:
        with get_shim(model).calibrate():
            for own, right in zip(model.predict(docs), exact, strict=True):
                assert own == pytest.approx(right, abs=1e-5)
    vectors = model.predict(docs)
    assert cosines(vectors, exact).min() > 0.99
    assert any((a != b).any() for a, b in zip(vectors, exact, strict=True))
    if get_shim(model).dtype == torch.float32:  # bfloat16 rounds differently in batches of other sizes
        assert model.predict(docs[1:2])[0] == pytest.approx(vectors[1], abs=1e-5)
    assert cosines(model.predict(docs[1:2]), vectors[1:2]).min() > 0.9999


@runs_here
def test_nothing_that_was_seen_leaves_it_dynamic(make_encoder, make_doc):
    shim = get_shim(make_encoder(precision="int8"))
    with shim.calibrate():
        pass
    assert shim.calibration is None
    with pytest.raises(RuntimeError, match="stop"), shim.calibrate():
        raise RuntimeError("stop")
    assert shim.options.precision == "int8"
    assert len(shim.predict([make_doc("the film")]).tokens) == 2


@runs_here
def test_int8_does_not_learn_unless_all_is_frozen(make_encoder, make_doc):
    with pytest.raises(EncoderError, match=r'precision = "int8" does not learn.*precision = "auto"'):
        make_encoder(precision="int8").begin_update([make_doc("the film")])
    rows, _ = make_encoder(precision="int8", freeze="all").begin_update([make_doc("the film")])
    assert rows[0].shape == (2, 32)


def test_what_has_learnt_is_rounded_no_more(make_encoder, make_doc):
    model = make_encoder()
    shim = get_shim(model)
    with shim.calibrate():
        shim.predict([make_doc("the film")])
    shim.round_to("int8")
    assert shim.storage == "int8"
    assert shim.calibration is not None
    rows, backprop = model.begin_update([make_doc("the film")])
    backprop(rows)
    model.finish_update(Adam(0.01))
    assert shim.storage == "float32"
    assert shim.calibration is None


def test_int8_is_for_processors_that_have_it(monkeypatch):
    with pytest.raises(EncoderError, match=r'"int8" is for processors\. On a GPU use "auto"'):
        resolve_precision("int8", torch.device("cuda"))
    monkeypatch.setattr("spacy_distil.encoder.precision.largest_weight", lambda: None)
    with pytest.raises(EncoderError, match='"int8" needs an x86 processor'):
        resolve_precision("int8", torch.device("cpu"))


def test_a_torch_without_the_operators_is_seen(monkeypatch):
    largest_weight.cache_clear()
    monkeypatch.setattr(torch.ops, "onednn", object())
    assert largest_weight() is None
    largest_weight.cache_clear()
