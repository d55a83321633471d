from __future__ import annotations

import pytest
import torch

from spacy_distil.encoder import precision
from spacy_distil.encoder.loss_scale import GROWTH_INTERVAL, LossScale
from spacy_distil.encoder.model import DistilBert, get_shim
from spacy_distil.encoder.precision import resolve_precision
from spacy_distil.errors import EncoderError

CPU = torch.device("cpu")


def test_a_precision_is_the_number_format_of_its_name():
    assert resolve_precision("float32", CPU) == torch.float32
    assert resolve_precision("bfloat16", CPU) == torch.bfloat16
    assert resolve_precision("float16", torch.device("cuda")) == torch.float16


def test_an_unknown_precision_is_an_error_that_names_the_known_ones():
    with pytest.raises(EncoderError, match=r"'int4' is unknown\. It takes auto, float32, bfloat16, float16, int8"):
        DistilBert(precision="int4")  # type: ignore[arg-type]


def test_float16_needs_a_gpu(make_encoder, make_doc):
    with pytest.raises(EncoderError, match=r'"float16" needs a GPU.* "auto", "bfloat16" or "float32"'):
        make_encoder(precision="float16").predict([make_doc("the film")])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t\t: fpu avx2 amx_bf16\n", torch.bfloat16),
        ("flags\t\t: fpu avx512_bf16\n", torch.bfloat16),
        ("flags\t\t: fpu avx2 avx512f\n", torch.float32),
        ("Features\t: fp asimd\n", torch.float32),
        (None, torch.float32),
    ],
)
def test_auto_is_bfloat16_where_the_processor_has_units_for_it(tmp_path, monkeypatch, flags, expected):
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(flags)
    monkeypatch.setattr(precision, "Path", lambda path: cpuinfo)
    assert resolve_precision("auto", CPU) == expected


def test_auto_is_bfloat16_on_gpus_from_compute_capability_8(monkeypatch):
    for capability, expected in (((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert resolve_precision("auto", torch.device("cuda")) == expected


def test_token_vectors_are_float32_in_every_precision(make_encoder, make_doc):
    model = make_encoder(precision="bfloat16")
    assert get_shim(model).dtype == torch.bfloat16
    assert model.predict([make_doc("the film")])[0].dtype == "float32"
    assert {parameter.dtype for parameter in get_shim(model).encoder.parameters()} == {torch.float32}


# Loss scaling, for float16


def test_scaled_gradients_come_back_as_they_were():
    scale, gradient = LossScale(1024.0), torch.randn(5)
    (scaled,) = scale.scale([gradient])
    assert torch.equal(scaled, gradient * 1024.0)
    assert scale.unscale([scaled, None])
    assert torch.equal(scaled, gradient)
    assert scale.factor == 1024.0


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_an_overflow_halves_the_scale_and_leaves_the_step_out(bad):
    scale, gradients = LossScale(1024.0), [torch.ones(3), torch.tensor([1.0, bad])]
    assert not scale.unscale(gradients)
    assert scale.factor == 512.0
    assert not any(gradient.any() for gradient in gradients)


def test_the_scale_doubles_after_many_good_steps_and_counts_anew_after_an_overflow():
    scale = LossScale(1024.0)
    for _ in range(GROWTH_INTERVAL - 10):
        scale.unscale([])
    scale.unscale([torch.tensor([float("inf")])])
    for _ in range(GROWTH_INTERVAL - 1):
        scale.unscale([])
    assert scale.factor == 512.0
    scale.unscale([])
    assert scale.factor == 1024.0
