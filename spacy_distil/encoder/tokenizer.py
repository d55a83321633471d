"""The word-piece tokenizer of a checkpoint, read from any of the forms in which it is saved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Encoding, Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from spacy_distil.errors import CheckpointError

SPECIAL_TOKENS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
# transformers' name of each option of BERT's normaliser, that of `tokenizers`, and transformers' default.
NORMALIZER_OPTIONS = (
    ("do_lower_case", "lowercase", True),
    ("strip_accents", "strip_accents", None),
    ("tokenize_chinese_chars", "handle_chinese_chars", True),
)


@dataclass(frozen=True)
class PieceTokenizer:
    """Text to pieces.

    tokenizer: without truncation and padding; nothing is ever cut silently.
    max_length: the longest sequence of pieces that the encoder takes, `[CLS]` and `[SEP]` included.
    special_tokens: `cls_token`, `sep_token`, … and their pieces.
    """

    tokenizer: Tokenizer
    max_length: int
    special_tokens: dict[str, str]

    @classmethod
    def from_folder(cls, folder: Path, *, max_length: int) -> PieceTokenizer:
        """Read a tokenizer from `tokenizer.json`, else from `vocab.txt`; `tokenizer_config.json` overrules both.

        The class that the config names doesn't matter: many DistilBERT checkpoints are saved with BERT's.
        """
        config = _read_optional_json(folder / "tokenizer_config.json")
        special_tokens = _special_tokens({**_read_optional_json(folder / "special_tokens_map.json"), **config})
        if (folder / "tokenizer.json").exists():
            tokenizer = _read_tokenizer(folder / "tokenizer.json")
            _overrule_normalizer(tokenizer, config)
        elif (folder / "vocab.txt").exists():
            tokenizer = _from_vocabulary(folder / "vocab.txt", config, special_tokens)
        else:
            raise CheckpointError(f"The folder {str(folder)!r} has no tokenizer: neither tokenizer.json nor vocab.txt.")
        return cls.create(tokenizer, max_length=max_length, special_tokens=special_tokens)

    @classmethod
    def create(cls, tokenizer: Tokenizer, *, max_length: int, special_tokens: dict[str, str]) -> PieceTokenizer:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        for role in ("cls_token", "sep_token"):
            if tokenizer.token_to_id(special_tokens[role]) is None:
                raise CheckpointError(f"The tokenizer's vocabulary lacks its {role}, {special_tokens[role]!r}.")
        return cls(tokenizer, max_length, special_tokens)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PieceTokenizer:
        return cls.create(
            Tokenizer.from_str(data["tokenizer"]), max_length=data["max_length"], special_tokens=data["special_tokens"]
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "tokenizer": self.tokenizer.to_str(),
            "max_length": self.max_length,
            "special_tokens": self.special_tokens,
        }

    @property
    def cls_id(self) -> int:
        return self.tokenizer.token_to_id(self.special_tokens["cls_token"])

    @property
    def sep_id(self) -> int:
        return self.tokenizer.token_to_id(self.special_tokens["sep_token"])

    @property
    def unk_id(self) -> int | None:
        """The piece for what the vocabulary has none for; None where there is no such piece."""
        return self.tokenizer.token_to_id(self.special_tokens["unk_token"])

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Pieces of each text with their offsets in characters, without `[CLS]` and `[SEP]`."""
        return self.tokenizer.encode_batch(texts, add_special_tokens=False)

    def check_vocabulary(self, vocab_size: int) -> None:
        highest = max(self.tokenizer.get_vocab(with_added_tokens=True).values())
        if highest >= vocab_size:
            raise CheckpointError(
                f"The tokenizer has pieces up to the id {highest}, and the weights have rows for {vocab_size} pieces only: "
                "tokenizer and weights belong to different checkpoints."
            )

    def write(self, folder: Path, model_type: str) -> None:
        """Write the files that transformers reads a tokenizer from."""
        self.tokenizer.save(str(folder / "tokenizer.json"))
        normalizer = self.tokenizer.normalizer
        options = {
            hf: getattr(normalizer, own) for hf, own, _ in NORMALIZER_OPTIONS if isinstance(normalizer, BertNormalizer)
        }
        config = {
            "tokenizer_class": "BertTokenizer" if model_type == "bert" else "DistilBertTokenizer",
            "model_max_length": self.max_length,
            **options,
            **self.special_tokens,
        }
        for name, data in (("tokenizer_config.json", config), ("special_tokens_map.json", self.special_tokens)):
            (folder / name).write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf8")
        vocabulary = sorted(self.tokenizer.get_vocab(with_added_tokens=False).items(), key=lambda item: item[1])
        (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece, _ in vocabulary), encoding="utf8")


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise CheckpointError(
            f"{str(path)!r} is no tokenizer that the installed `tokenizers` can read: {error}."
        ) from None


def _read_optional_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except ValueError as error:
        raise CheckpointError(f"{str(path)!r} is no valid JSON: {error}.") from None


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    def text(value: Any) -> str:
        return value["content"] if isinstance(value, dict) else value

    return {role: text(config.get(role) or default) for role, default in SPECIAL_TOKENS.items()}


def _overrule_normalizer(tokenizer: Tokenizer, config: dict[str, Any]) -> None:
    """As transformers does: a `tokenizer_config.json` that says otherwise than `tokenizer.json` is right."""
    normalizer = tokenizer.normalizer
    if isinstance(normalizer, BertNormalizer):
        for hf, own, _ in NORMALIZER_OPTIONS:
            if hf in config and getattr(normalizer, own) != config[hf]:
                setattr(normalizer, own, config[hf])
        tokenizer.normalizer = normalizer


def _from_vocabulary(path: Path, config: dict[str, Any], special_tokens: dict[str, str]) -> Tokenizer:
    pieces = path.read_text(encoding="utf8").split("\n")
    vocabulary = {piece.rstrip("\r"): i for i, piece in enumerate(pieces) if piece or i < len(pieces) - 1}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token=special_tokens["unk_token"]))
    tokenizer.normalizer = BertNormalizer(
        clean_text=True, **{own: config.get(hf, default) for hf, own, default in NORMALIZER_OPTIONS}
    )
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.decoder = WordPieceDecoder()
    cls, sep = special_tokens["cls_token"], special_tokens["sep_token"]
    if cls in vocabulary and sep in vocabulary:
        tokenizer.post_processor = TemplateProcessing(
            single=f"{cls} $A {sep}",
            pair=f"{cls} $A {sep} $B:1 {sep}:1",
            special_tokens=[(cls, vocabulary[cls]), (sep, vocabulary[sep])],
        )
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True) for token in special_tokens.values() if token in vocabulary]
    )
    return tokenizer
