"""The shape of an encoder, and how it is written in a Hugging Face `config.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from spacy_distil.errors import CheckpointError, EncoderError

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu")
DISTILBERT_EPS = 1e-12
# What a Hugging Face config has to say of a shape.
BERT_SIZES = (
    "vocab_size",
    "hidden_size",
    "max_position_embeddings",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
)
DISTILBERT_LAYERS = [0, 2, 4, 7, 9, 11]  # of BERT's 12: DistilBERT's own initialisation (Sanh et al. 2019)
DISTILBERT_SIZES = ("vocab_size", "dim", "max_position_embeddings", "n_layers", "n_heads", "hidden_dim")


@dataclass(frozen=True)
class LayerConfig:
    """The shape of one layer. Heads and neurons are counted layer by layer, since pruning removes them so."""

    n_heads: int
    ffn_width: int


@dataclass(frozen=True)
class EncoderConfig:
    """The shape of a DistilBERT or BERT encoder.

    A BERT differs from a DistilBERT in two parts: `n_types` rows of token types, and a pooler over `[CLS]`.
    """

    vocab_size: int
    width: int
    head_width: int
    max_positions: int
    layers: tuple[LayerConfig, ...]
    n_types: int = 0
    pooler: bool = False
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    layer_norm_eps: float = DISTILBERT_EPS
    pad_id: int = 0

    @property
    def model_type(self) -> Literal["bert", "distilbert"]:
        return "bert" if self.n_types else "distilbert"

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EncoderConfig:
        return cls(**{**data, "layers": tuple(LayerConfig(**layer) for layer in data["layers"])})

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "layers": [asdict(layer) for layer in self.layers]}

    @classmethod
    def from_hf(cls, hf: dict[str, Any], *, where: str) -> EncoderConfig:
        """Read a Hugging Face config.

        where: what to call the config in an error.
        Raises CheckpointError for an architecture other than BERT and DistilBERT, and for missing values.
        """
        model_type = hf.get("model_type")
        if model_type not in ("bert", "distilbert"):
            raise CheckpointError(
                f"{where} is of the architecture {model_type!r}. Supported are 'distilbert' and 'bert' checkpoints."
            )
        if hf.get("position_embedding_type", "absolute") != "absolute":
            raise CheckpointError(
                f"{where} has position_embedding_type = {hf['position_embedding_type']!r}. Only 'absolute' is supported."
            )
        if hf.get("is_decoder") or hf.get("add_cross_attention"):
            raise CheckpointError(
                f"{where} is a decoder (is_decoder or add_cross_attention). Only encoders are supported."
            )
        for key in BERT_SIZES if model_type == "bert" else DISTILBERT_SIZES:
            if key not in hf:
                raise CheckpointError(f"{where} lacks the value {key!r}. Is it a complete config.json?")
            if not isinstance(hf[key], int) or hf[key] < 1:
                raise CheckpointError(f"{where} has {key} = {hf[key]!r}, where a positive whole number is expected.")
        config = cls._from_bert(hf) if model_type == "bert" else cls._from_distilbert(hf)
        if config.activation not in ACTIVATIONS:
            raise CheckpointError(
                f"{where} has the activation {config.activation!r}. Supported are {', '.join(ACTIVATIONS)}."
            )
        return config

    @classmethod
    def _from_bert(cls, hf: dict[str, Any]) -> EncoderConfig:
        width, n_heads = hf["hidden_size"], hf["num_attention_heads"]
        return cls(
            vocab_size=hf["vocab_size"],
            width=width,
            head_width=width // n_heads,
            max_positions=hf["max_position_embeddings"],
            layers=(LayerConfig(n_heads, hf["intermediate_size"]),) * hf["num_hidden_layers"],
            n_types=hf.get("type_vocab_size", 2),
            activation=hf.get("hidden_act", "gelu"),
            dropout=hf.get("hidden_dropout_prob", 0.1),
            attention_dropout=hf.get("attention_probs_dropout_prob", 0.1),
            layer_norm_eps=hf.get("layer_norm_eps", 1e-12),
            pad_id=hf.get("pad_token_id") or 0,
        )

    @classmethod
    def _from_distilbert(cls, hf: dict[str, Any]) -> EncoderConfig:
        width, n_heads = hf["dim"], hf["n_heads"]
        return cls(
            vocab_size=hf["vocab_size"],
            width=width,
            head_width=width // n_heads,
            max_positions=hf["max_position_embeddings"],
            layers=(LayerConfig(n_heads, hf["hidden_dim"]),) * hf["n_layers"],
            activation=hf.get("activation", "gelu"),
            dropout=hf.get("dropout", 0.1),
            attention_dropout=hf.get("attention_dropout", 0.1),
            pad_id=hf.get("pad_token_id") or 0,
        )

    def to_hf(self) -> dict[str, Any]:
        """Write a Hugging Face config.

        Raises CheckpointError where Hugging Face has no words for the shape: layers that differ from one another, or
        a DistilBERT with another `layer_norm_eps` than 1e-12.
        """
        layer = self.layers[0]
        if set(self.layers) != {layer} or layer.n_heads * self.head_width != self.width:
            raise CheckpointError(
                "The encoder's layers differ in their heads or neurons, as after pruning. A Hugging Face config.json "
                "can't say that: save the pipeline, or let `distil export` fill the layers up with zeros."
            )
        shared = {
            "vocab_size": self.vocab_size,
            "max_position_embeddings": self.max_positions,
            "pad_token_id": self.pad_id,
            "initializer_range": 0.02,
        }
        if self.model_type == "bert":
            return {
                "architectures": ["BertModel"],
                "model_type": "bert",
                "hidden_size": self.width,
                "num_hidden_layers": len(self.layers),
                "num_attention_heads": layer.n_heads,
                "intermediate_size": layer.ffn_width,
                "hidden_act": self.activation,
                "hidden_dropout_prob": self.dropout,
                "attention_probs_dropout_prob": self.attention_dropout,
                "layer_norm_eps": self.layer_norm_eps,
                "type_vocab_size": self.n_types,
                **shared,
            }
        if self.layer_norm_eps != DISTILBERT_EPS:
            raise CheckpointError(
                f"The encoder has layer_norm_eps = {self.layer_norm_eps}, and transformers' DistilBERT knows only "
                f"{DISTILBERT_EPS}: the written model would give other numbers."
            )
        return {
            "architectures": ["DistilBertModel"],
            "model_type": "distilbert",
            "dim": self.width,
            "n_layers": len(self.layers),
            "n_heads": layer.n_heads,
            "hidden_dim": layer.ffn_width,
            "activation": self.activation,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "sinusoidal_pos_embds": False,
            "tie_weights_": True,
            **shared,
        }


def choose_layers(n_layers: int, n_kept: int | None = None) -> list[int]:
    """The layers that a student starts from: evenly spread, or those of DistilBERT where it has the same numbers.

    n_layers: of the teacher.
    n_kept: of the student; None: half of them.
    RAISES: EncoderError if the teacher has fewer.
    """
    n_kept = -(-n_layers // 2) if n_kept is None else n_kept
    if not 1 <= n_kept <= n_layers:
        raise EncoderError(
            f"A student can't keep {n_kept} layers of a teacher that has {n_layers}. Ask for 1 to {n_layers}."
        )
    if (n_layers, n_kept) == (12, 6):
        return list(DISTILBERT_LAYERS)
    return [i * n_layers // n_kept for i in range(n_kept)]
