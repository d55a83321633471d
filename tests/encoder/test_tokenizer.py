"""Pieces equal transformers' own, whatever form the tokenizer is saved in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import BertTokenizer, BertTokenizerFast, DistilBertTokenizerFast

from spacy_distil.encoder.checkpoint import load_checkpoint
from spacy_distil.encoder.tokenizer import PieceTokenizer
from tests.conftest import TEXTS, VOCABULARY, SaveCheckpoint, save_tokenizer

ODD = [
    "",
    " \t\n\u00a0\u3000",
    "Ünbelievable ÉÀ naïve e\u0301 \u0130stanbul ŒUVRE ß",
    "[CLS] the [MASK] [SEP] film[SEP]",
    "\u200b\u200d\ufeff\u0000\u0007a\u00adb",
    "👩‍👩‍👧 🇩🇪 👍🏽",
    "日本語の映画は中国",
    "שלום سلام",
    "x" * 10_000,
    "the" * 200 + " " + "-" * 300,
]
Read = type[BertTokenizerFast] | type[DistilBertTokenizerFast]


def read(folder: Path) -> PieceTokenizer:
    return PieceTokenizer.from_folder(folder, max_length=64)


def assert_equal_to_transformers(folder: Path, make: Read) -> None:
    ours, theirs = read(folder), make.from_pretrained(folder, model_max_length=100_000)
    texts = [*TEXTS, *ODD]
    for text, encoding in zip(texts, ours.encode(texts), strict=True):
        expected = theirs(text, add_special_tokens=False, return_offsets_mapping=True)
        assert encoding.ids == expected["input_ids"]
        assert encoding.offsets == expected["offset_mapping"]
    assert (ours.cls_id, ours.sep_id) == (theirs.cls_token_id, theirs.sep_token_id)


@pytest.fixture(params=["tokenizer.json", "vocab.txt"])
def only(request: pytest.FixtureRequest, tmp_path: Path):
    """Saves a tokenizer as newer checkpoints have it, and as older ones do, with the vocabulary alone."""

    def save(*, cased: bool, **config) -> Path:
        save_tokenizer(tmp_path, "bert", cased=cased)
        other = "vocab.txt" if request.param == "tokenizer.json" else "tokenizer.json"
        (tmp_path / other).unlink()
        path = tmp_path / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
        return tmp_path

    return save


@pytest.mark.parametrize("make", [BertTokenizerFast, DistilBertTokenizerFast])
@pytest.mark.parametrize("cased", [False, True])
def test_pieces_and_offsets_equal_transformers(only, make: Read, cased: bool):
    assert_equal_to_transformers(only(cased=cased), make)


@pytest.mark.parametrize(
    "config",
    [
        {"do_lower_case": True},
        {"do_lower_case": False},
        {"do_lower_case": True, "strip_accents": False},
        {"do_lower_case": False, "strip_accents": True},
        {"do_lower_case": True, "tokenize_chinese_chars": False},
    ],
)
@pytest.mark.parametrize("cased", [False, True])
def test_the_config_overrules_the_file_as_in_transformers(only, cased: bool, config):
    folder = only(cased=cased, **config)
    assert_equal_to_transformers(folder, BertTokenizerFast)
    tokens = read(folder).encode(["Great"])[0].tokens
    assert tokens == (["great"] if config["do_lower_case"] else ["Great"])


def test_a_vocabulary_alone_is_uncased_as_in_transformers(tmp_path):
    (tmp_path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in VOCABULARY), encoding="utf8")
    assert_equal_to_transformers(tmp_path, BertTokenizerFast)


def test_a_vocabulary_of_windows_with_pieces_that_look_like_line_breaks(tmp_path):
    pieces = [*VOCABULARY, "\u2028", "\x85", "\u00a0"]
    (tmp_path / "vocab.txt").write_bytes("".join(f"{piece}\r\n" for piece in pieces).encode())
    assert read(tmp_path).tokenizer.get_vocab() == {piece: i for i, piece in enumerate(pieces)}


def test_a_distilbert_saved_with_the_tokenizer_of_bert(save_checkpoint: SaveCheckpoint):
    folder = save_checkpoint("distilbert")
    for path in folder.glob("*token*"):
        path.unlink()
    BertTokenizer(str(folder / "vocab.txt"), do_lower_case=False).save_pretrained(folder)
    assert json.loads((folder / "tokenizer_config.json").read_text())["tokenizer_class"] == "BertTokenizer"
    assert_equal_to_transformers(folder, DistilBertTokenizerFast)
    assert load_checkpoint(str(folder)).tokenizer.encode(["Great"])[0].tokens == ["Great"]


def test_special_pieces_of_other_names(tmp_path):
    save_tokenizer(tmp_path, "bert")
    (tmp_path / "tokenizer.json").unlink()
    pieces = [{"[CLS]": "<s>", "[SEP]": "</s>"}.get(piece, piece) for piece in VOCABULARY]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces), encoding="utf8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"cls_token": {"content": "<s>"}, "sep_token": "</s>"}))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"cls_token": "overruled", "unk_token": "[UNK]"}))
    tokenizer = read(tmp_path)
    assert (tokenizer.cls_id, tokenizer.sep_id) == (pieces.index("<s>"), pieces.index("</s>"))
    assert tokenizer.encode(["<s> the"])[0].tokens == ["<s>", "the"]


def test_truncation_and_padding_in_the_file_are_turned_off(tmp_path):
    save_tokenizer(tmp_path, "bert")
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encodings = read(tmp_path).encode(["the " * 100, "the"])
    assert [len(encoding) for encoding in encodings] == [100, 1]
    assert not any(encoding.overflowing for encoding in encodings)


@pytest.mark.parametrize("cased", [False, True])
def test_a_tokenizer_survives_as_a_dict(only, cased: bool):
    tokenizer = read(only(cased=cased))
    again = PieceTokenizer.from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    assert [e.ids for e in again.encode(TEXTS)] == [e.ids for e in tokenizer.encode(TEXTS)]
    assert (again.max_length, again.special_tokens) == (64, tokenizer.special_tokens)


@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
@pytest.mark.parametrize("cased", [False, True])
def test_what_is_written_gives_the_same_pieces_in_either_form(only, tmp_path, model_type, cased: bool):
    tokenizer = read(only(cased=cased, strip_accents=cased))
    written = tmp_path / "written"
    written.mkdir()
    tokenizer.write(written, model_type)
    make = BertTokenizerFast if model_type == "bert" else DistilBertTokenizerFast
    expected = [encoding.ids for encoding in tokenizer.encode([*TEXTS, *ODD])]
    assert_equal_to_transformers(written, make)
    assert [encoding.ids for encoding in read(written).encode([*TEXTS, *ODD])] == expected
    (written / "tokenizer.json").unlink()
    assert_equal_to_transformers(written, make)
    assert [encoding.ids for encoding in read(written).encode([*TEXTS, *ODD])] == expected
