"""A student's config, made from its teacher."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spacy.language import Language
from thinc.api import Config

from spacy_distil.distillation.attach import CALLBACK, take_from_teacher
from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.pipes import find_distiller
from spacy_distil.distillation.settings import BLOCK, DOCUMENTED
from spacy_distil.distillation.teacher import load_teacher
from spacy_distil.encoder.checkpoint import WEIGHTS
from spacy_distil.encoder.config import choose_layers
from spacy_distil.languages import make_blank
from spacy_distil.pipeline.distilbert import DistilBert
from spacy_distil.pipeline.encoders import encoders_of
from spacy_distil.pipeline.generation.component import Seq2Seq
from spacy_distil.pipeline.generation.model import get_decoder

ENCODER = "distilbert"
LISTENER = {"@architectures": "spacy-distil.DistilBertListener.v1"}
SHAPED_EARLY = ("entity_linker",)
"""Factories whose models take the listener's width when they are made, and not when they are initialised."""
WIDE = 768
"""From this width on an encoder is fine-tuned at the lower of the two learning rates."""

_BASE = """
[paths]
teacher = null
train = null
dev = null

[system]
seed = 0
gpu_allocator = "pytorch"

[nlp]
batch_size = 64

[components]

[corpora]

[corpora.train]
@readers = "spacy-distil.TextCorpus.v1"
path = ${paths.train}

[corpora.dev]
@readers = "spacy-distil.TextCorpus.v1"
path = ${paths.dev}

[training]
train_corpus = "corpora.train"
dev_corpus = "corpora.dev"
seed = ${system.seed}
gpu_allocator = ${system.gpu_allocator}
dropout = 0.1
accumulate_gradient = 1
patience = 0
max_epochs = 0
max_steps = 2000
eval_frequency = 200

[training.batcher]
@batchers = "spacy.batch_by_words.v1"
size = 1000
tolerance = 0.2
discard_oversize = false

[training.logger]
@loggers = "spacy.ConsoleLogger.v3"
progress_bar = "eval"

[training.optimizer]
@optimizers = "Adam.v1"
L2_is_weight_decay = true
L2 = 0.01
grad_clip = 1.0

[training.optimizer.learn_rate]
@schedules = "warmup_linear.v1"
warmup_steps = 200
total_steps = ${training.max_steps}
initial_rate = 0.0003

[initialize]

[initialize.components]
"""


def make_student_config(
    teacher: str, *, n_layers: int | None = None, n_decoder_layers: int | None = None, lang: str | None = None
) -> Config:
    """The config of a student with the teacher's components, on one small DistilBERT.

    The student's encoder starts from the teacher's where that is a BERT or a DistilBERT, else from
    distilbert-base-uncased. Components that learn listen to it, but for those with an encoder of their own, as
    `distilbert_mlm`, which keep one of fewer layers; those that don't learn are sourced from the teacher.

    teacher: folder of a trained pipeline, or name of an installed package.
    n_layers: how many layers the student keeps; None: half of them.
    n_decoder_layers: how many layers of its decoder a `distilbert_seq2seq` keeps; None: all.
    lang: the student's language; None: the teacher's.
    RETURNS: complete but for `paths.train` and `paths.dev`.
    RAISES: TeacherError if the teacher can't be loaded; DistillationError if nothing in it can be distilled, it has no decoder
        of so many layers, or spaCy has no such language; EncoderError if its encoder has fewer layers than asked for.
    """
    if lang is not None:
        make_blank(lang, DistillationError)
    nlp = load_teacher(teacher)
    taught = [name for name, pipe in nlp.pipeline if find_distiller(pipe) is not None]
    if not taught:
        raise DistillationError(
            f"Nothing in the teacher '{teacher}' can be distilled: it has {', '.join(nlp.pipe_names) or 'no components'}."
        )
    config = Config().from_str(_BASE, interpolate=False)
    config["paths"]["teacher"] = teacher
    encoders = [name for name, pipe in nlp.pipeline if hasattr(pipe, "listening_components")]
    own = {name: encoder for name in taught if (encoder := _own_encoder(nlp, teacher, name, n_layers)) is not None}
    decoders = _decoders(nlp, teacher, own, n_decoder_layers)
    is_shared = len(own) < len(taught)
    model, inherit, width = _start(nlp, teacher, n_layers) if is_shared else ({}, False, max(_widths(nlp, own)))
    if is_shared:
        config["components"][ENCODER] = {"factory": ENCODER, "model": model}
    for name, _ in nlp.pipeline:
        if name in taught:
            block = nlp.config["components"][name]
            listener = {**LISTENER, "width": width} if block["factory"] in SHAPED_EARLY else LISTENER
            parts = {"encoder": own[name], **decoders.get(name, {})} if name in own else {}
            config["components"][name] = _listening(block, listener, parts)
        elif name not in encoders:
            config["components"][name] = {"source": "${paths.teacher}"}
    config["nlp"].update(
        lang=lang or nlp.lang,
        pipeline=[*([ENCODER] if is_shared else []), *(name for name in nlp.pipe_names if name not in encoders)],
    )
    annotating = nlp.config["training"].get("annotating_components") or []
    config["training"]["annotating_components"] = [
        name for name in annotating if name in nlp.pipe_names and name not in encoders
    ]
    config["training"]["score_weights"] = dict(nlp.config["training"]["score_weights"])
    config["training"]["optimizer"]["learn_rate"]["initial_rate"] = 5e-5 if width >= WIDE else 3e-4
    config["initialize"]["after_init"] = {"@callbacks": CALLBACK}
    for name in taught:
        if taken := take_from_teacher(nlp.get_pipe(name), "${paths.teacher}", name):
            config["initialize"]["components"][name] = taken
    config[BLOCK] = Config().from_str(DOCUMENTED, interpolate=False)[BLOCK]
    config[BLOCK].update(teacher="${paths.teacher}", inherit=inherit, inherit_heads=True)
    return config


def to_text(config: Config) -> str:
    """The config as a file, each field of `[distillation]` with its explanation."""
    rest = Config({name: block for name, block in config.items() if name != BLOCK})
    block = DOCUMENTED
    for field in ("teacher", "inherit", "inherit_heads"):
        default = next(line for line in DOCUMENTED.splitlines() if line.startswith(f"{field} ="))
        value = config[BLOCK][field]
        block = block.replace(default, f"{field} = {value if isinstance(value, str) else str(value).lower()}")
    return f"{block}\n{rest.to_str(interpolate=False)}"


def _start(nlp: Language, teacher: str, n_layers: int | None) -> tuple[dict[str, Any], bool, int]:
    """The settings of the student's encoder, whether it inherits the teacher's weights once it has been made, and its
    width."""
    start: dict[str, Any] = {"@architectures": "spacy-distil.DistilBert.v1"}
    for name, pipe in nlp.pipeline:
        if isinstance(pipe, DistilBert):
            shape = pipe.shim.encoder.config
            layers = choose_layers(len(shape.layers), n_layers)
            # The component's folder has its fine-tuned weights.
            folder = Path(nlp.path or teacher) / name
            pooling = {} if pipe.shim.options.pooling == "mean" else {"pooling": pipe.shim.options.pooling}
            return {**start, "name": str(folder), "layers": layers, **pooling}, False, shape.width
    for name, pipe in nlp.pipeline:
        block = nlp.config["components"].get(name, {}).get("model", {})
        hf_config: Any = getattr(getattr(getattr(pipe, "model", None), "transformer", None), "config", None)
        if getattr(hf_config, "model_type", None) in ("bert", "distilbert") and "name" in block:
            layers = choose_layers(hf_config.num_hidden_layers, n_layers)
            return {**start, "name": block["name"], "layers": layers}, True, hf_config.hidden_size
    return {**start, "name": "distilbert-base-uncased", "layers": choose_layers(6, n_layers or 6)}, False, WIDE


def _own_encoder(nlp: Language, teacher: str, name: str, n_layers: int | None) -> dict[str, Any] | None:
    """The settings of the encoder that a component of the student has for itself, None where it listens to the shared one.

    That is so where its settings have an `encoder`, and its folder the weights.
    """
    folder = Path(nlp.path or teacher) / name
    block = nlp.config["components"][name].get("model", {}).get("encoder")
    if block is None or not (folder / WEIGHTS).exists():
        return None
    (shim,) = encoders_of(nlp.get_pipe(name))
    layers = choose_layers(len(shim.encoder.config.layers), n_layers)
    return {"@architectures": block["@architectures"], "name": str(folder), "layers": layers}


def _decoders(nlp: Language, teacher: str, own: Iterable[str], n_layers: int | None) -> dict[str, dict[str, Any]]:
    """The settings of the decoders beside these encoders, by component. What one writes has to be the teacher's vocabulary: it
    starts from the teacher's decoder.

    n_layers: how many layers each keeps; None: all.
    """
    found = {name: pipe for name in own if isinstance(pipe := nlp.get_pipe(name), Seq2Seq)}
    if n_layers is not None and not found:
        raise DistillationError(
            f"A student of '{teacher}' can't keep {n_layers} layers of a decoder: no component of the teacher has one, as "
            f"distilbert_seq2seq does. It has {', '.join(nlp.pipe_names)}. Leave out --decoder-layers."
        )
    return {
        name: {
            "decoder": str(Path(nlp.path or teacher) / name),
            "decoder_layers": None if n_layers is None else _choose_decoder_layers(name, pipe, n_layers),
        }
        for name, pipe in found.items()
    }


def _choose_decoder_layers(name: str, pipe: Seq2Seq, n_kept: int) -> list[int]:
    n_layers = get_decoder(pipe.model).decoder.config.n_layers
    if not 1 <= n_kept <= n_layers:
        raise DistillationError(
            f"A student can't keep {n_kept} layers of the decoder of '{name}', which has {n_layers}. Ask for 1 to {n_layers}."
        )
    return choose_layers(n_layers, n_kept)


def _widths(nlp: Language, names: Iterable[str]) -> list[int]:
    return [shim.encoder.config.width for name in names for shim in encoders_of(nlp.get_pipe(name))]


def _listening(block: Any, listener: dict[str, Any], own: dict[str, Any]) -> Any:
    """A component's settings, with a listener wherever its model has a `tok2vec`, and those of the encoder of its own, and of
    what belongs to it, in place of the teacher's."""
    if not isinstance(block, dict):
        return block
    if own and "encoder" in block:
        return {**block, **own}
    return {
        key: dict(listener) if key == "tok2vec" else _listening(value, listener, own) for key, value in block.items()
    }
