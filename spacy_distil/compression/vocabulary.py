"""The word pieces that a corpus uses, and an encoder that knows no others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spacy.training import Example
from tokenizers import Tokenizer

from spacy_distil.compression.errors import CompressionError
from spacy_distil.encoder.checkpoint import Checkpoint
from spacy_distil.encoder.tokenizer import PieceTokenizer
from spacy_distil.pipeline.references import as_list, register_references

WORDS = "embeddings.word_embeddings.weight"
TEXTS_AT_ONCE = 1000


def choose_pieces(tokenizer: PieceTokenizer, examples: Iterable[Example], coverage: float = 1.0) -> list[int]:
    """The pieces that stay, ascending: special ones, all single characters, at the start of a word and within one, and the most
    frequent of those that the texts and questions of a corpus are cut into.

    A word whose pieces stay is cut as before, since the longest piece that fits is among them. Any other is cut into
    shorter ones: a text gets no `[UNK]` for a character that is in the vocabulary by itself.

    coverage: the share of the pieces in the corpus, counted as often as they stand there, that is to stay. 1.0: all.
    """
    data = read_wordpiece(tokenizer)
    prefix = data["model"]["continuing_subword_prefix"]
    vocabulary = tokenizer.tokenizer.get_vocab(with_added_tokens=True)
    special = {*tokenizer.special_tokens.values(), *(token["content"] for token in data["added_tokens"])}
    kept = {
        number
        for piece, number in vocabulary.items()
        if piece in special or len(piece) == 1 or (piece.startswith(prefix) and len(piece) == len(prefix) + 1)
    }
    counts = count_pieces(tokenizer, read_texts(examples), max(vocabulary.values()) + 1)
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    kept.update(order[(before < coverage * counts.sum()) & (counts[order] > 0)].tolist())
    return sorted(kept)


def read_wordpiece(tokenizer: PieceTokenizer) -> dict[str, Any]:
    """A tokenizer's own JSON. Raises CompressionError for one whose vocabulary can't be cut."""
    data = json.loads(tokenizer.tokenizer.to_str())
    if data["model"]["type"] != "WordPiece":
        raise CompressionError(
            f"The tokenizer is a {data['model']['type']}, and only a WordPiece, as BERT's and DistilBERT's are, can lose "
            "pieces. Leave the vocabulary as it is."
        )
    return data


def read_texts(examples: Iterable[Example]) -> Iterator[str]:
    """All that an encoder reads: the texts, and the questions about them."""
    register_references()
    for example in examples:
        yield example.predicted.text
        for question in as_list(example.reference._.questions):
            yield question["question"]


def count_pieces(tokenizer: PieceTokenizer, texts: Iterable[str], vocab_size: int) -> NDArray[np.int64]:
    """(pieces of the vocabulary,) how often each stands in the texts."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    rest = list(texts)
    for start in range(0, len(rest), TEXTS_AT_ONCE):
        encodings = tokenizer.encode(rest[start : start + TEXTS_AT_ONCE])
        ids = np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), dtype=np.int64)
        counts += np.bincount(ids, minlength=vocab_size)
    return counts


def keep_pieces(checkpoint: Checkpoint, pieces: Sequence[int]) -> Checkpoint:
    """The encoder with some of its pieces, which keep their order and get new numbers.

    pieces: ascending, with all special ones.
    """
    words = checkpoint.weights[WORDS]
    weights = {**checkpoint.weights, WORDS: words[list(pieces)]}
    numbers = {old: new for new, old in enumerate(pieces)}
    config = replace(checkpoint.config, vocab_size=len(pieces), pad_id=numbers.get(checkpoint.config.pad_id, 0))
    tokenizer = renumber(checkpoint.tokenizer, numbers)
    return replace(checkpoint, config=config, weights=weights, tokenizer=tokenizer)


def renumber(tokenizer: PieceTokenizer, numbers: Mapping[int, int]) -> PieceTokenizer:
    """The tokenizer with the pieces that have a new number, and no others."""
    data = read_wordpiece(tokenizer)
    vocabulary = data["model"]["vocab"]
    data["model"]["vocab"] = {piece: numbers[i] for piece, i in vocabulary.items() if i in numbers}
    for token in data["added_tokens"]:
        token["id"] = numbers[token["id"]]
    _renumber_processor(data["post_processor"] or {}, numbers)
    return replace(tokenizer, tokenizer=Tokenizer.from_str(json.dumps(data)))


def _renumber_processor(processor: dict[str, Any], numbers: Mapping[int, int]) -> None:
    """Change the numbers of `[CLS]` and `[SEP]` in the part that sets them around a text, of whichever kind it is."""
    if processor.get("type") == "TemplateProcessing":
        for token in processor["special_tokens"].values():
            token["ids"] = [numbers[i] for i in token["ids"]]
    for role in {"cls", "sep"} & processor.keys():
        piece, number = processor[role]
        processor[role] = [piece, numbers[number]]
    for inner in processor.get("processors", ()):
        _renumber_processor(inner, numbers)
