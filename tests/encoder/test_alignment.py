"""Pieces and tokens, many to many, against a loop over characters; texts that are as odd as texts get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import spacy
from hypothesis import example, given
from hypothesis import strategies as st
from spacy.tokens import Doc
from spacy.vocab import Vocab

from spacy_distil.encoder.pieces import align, docs_to_pieces
from spacy_distil.encoder.tokenizer import PieceTokenizer
from tests.conftest import TEXTS, save_tokenizer
from tests.encoder.reference import pieces_of_tokens

ODD = [
    "",
    " ",
    "\t\n\r\u00a0\u2003\u3000",
    "x" * 10_000,
    "the" * 40,
    "-" * 200,
    "\u0000\u0007\u009f\ufffd",  # control characters and the replacement character: the normaliser removes them
    "\u200b\u200c\u200d\u2060\ufeff\u00ad",  # zero-width
    "👩‍👩‍👧‍👦",  # joined by zero-width joiners
    "🇩🇪🇫🇷",
    "👍🏽",
    "❤️",
    "שלום עולם",
    "السلام عليكم",
    "日本語の映画は中国で人気",
    "한국",  # which the uncased normaliser takes apart into jamo: several pieces of one character
    "e\u0301\u0323\u0308",
    "\u0301",  # an accent on its own
    "naïve café É",
    "\u0130\u0131 ß ŒUVRE \ufb01",  # characters whose lower case has another length
    "[CLS] [SEP][PAD]",
    "\U0001d518\U0001d52b\U0001d526",  # beyond the basic plane
    "don't U.S. http://a.b/c?d=e (2024)",
]
texts = st.lists(
    st.sampled_from([*ODD, *TEXTS])
    | st.text(max_size=12)
    | st.text(st.sampled_from("ae É\u0301\u200b-中한😀 \n"), max_size=12)
).map("".join)
vocab = Vocab()
English, Multilingual = spacy.blank("en", vocab=vocab), spacy.blank("xx", vocab=vocab)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, PieceTokenizer]:
    """An uncased tokenizer, which drops accents, and a cased one."""

    def read(cased: bool) -> PieceTokenizer:
        folder: Path = tmp_path_factory.mktemp("tokenizer")
        save_tokenizer(folder, "bert", cased=cased)
        return PieceTokenizer.from_folder(folder, max_length=64)

    return {cased: read(cased) for cased in (False, True)}


def assert_aligned(docs: list[Doc], tokenizer: PieceTokenizer) -> None:
    pieces = docs_to_pieces(docs, tokenizer)
    starts, ends = pieces.token_starts.tolist(), pieces.token_ends.tolist()
    before, tokens_before = 0, 0
    for doc, doc_end in zip(docs, pieces.doc_ends.tolist(), strict=True):
        encoding = tokenizer.encode([doc.text])[0]
        assert pieces.ids[before:doc_end].tolist() == encoding.ids
        expected = [[before + piece for piece in of_token] for of_token in pieces_of_tokens(doc, encoding.offsets)]
        here = range(tokens_before, tokens_before + len(doc))
        assert [list(range(starts[token], ends[token])) for token in here] == expected
        before, tokens_before = doc_end, tokens_before + len(doc)
    assert len(pieces.ids) == before
    assert len(starts) == len(ends) == tokens_before


@given(st.lists(texts, max_size=4), st.booleans(), st.sampled_from([English, Multilingual]))
@example(ODD, False, English)
@example(ODD, True, English)
@example(ODD, False, Multilingual)
@example(["".join(ODD)], False, English)
@example([], False, English)
def test_every_token_has_the_pieces_of_its_characters(tokenizers, texts, cased, nlp):
    assert_aligned([nlp.make_doc(text) for text in texts], tokenizers[cased])


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8) | st.sampled_from(
    [
        "the",
        "un",
        "believ",
        "able",
        "un-believable",
        "film plot",
        "-",
        "-" * 20,
        "한국",
        "\u0301",
        "\u200d",
        "😀",
        "中国",
        "x" * 150,
    ]
)


@given(st.lists(st.lists(st.tuples(words, st.booleans()), max_size=8), max_size=3), st.booleans())
@example([[("unbeliev", False), ("able", False), ("film", True)]], False)
@example([[("e", False), ("\u0301", False), ("\u0323", False)]], False)
def test_words_that_split_pieces_and_pieces_that_split_words(tokenizers, docs, cased):
    """Docs of any words, with and without spaces: a piece may span several tokens, a token several pieces."""
    made = [Doc(vocab, words=[w for w, _ in doc], spaces=[s for _, s in doc]) for doc in docs]
    assert_aligned(made, tokenizers[cased])


def test_the_examples_have_what_they_are_for(tokenizers):
    uncased = tokenizers[False]
    hangul = uncased.encode(["한국"])[0]
    assert hangul.offsets == [(0, 1), (0, 1), (0, 1), (1, 2), (1, 2), (1, 2)], "several pieces of one character"
    shared = docs_to_pieces([Doc(vocab, words=["th", "e"], spaces=[False, False])], uncased)
    assert shared.token_starts.tolist() == [0, 0], "one piece of two tokens"
    assert shared.token_ends.tolist() == [1, 1]
    alone = docs_to_pieces([English.make_doc("the \n\n \u0301 film")], uncased)
    assert (alone.token_starts == alone.token_ends).sum() == 2, "tokens without pieces"


@given(st.data())
def test_align_is_the_set_of_pieces_that_share_a_character(data):
    """Any ascending pieces and tokens, pieces that share characters and empty ones among them."""
    bounds = st.lists(st.integers(0, 20), max_size=12).map(sorted)
    token_bounds = data.draw(bounds.map(lambda b: b[: len(b) // 2 * 2]))
    tokens = list(zip(token_bounds[::2], token_bounds[1::2], strict=True))
    piece_starts = data.draw(bounds)
    lengths = [data.draw(st.integers(1, 4)) for _ in piece_starts]
    piece_ends = np.maximum.accumulate([s + n for s, n in zip(piece_starts, lengths, strict=True)] or [0])
    pieces = list(zip(piece_starts, piece_ends.tolist(), strict=False))
    first, last = align(*(np.array(row, dtype=np.int64) for row in (*_columns(tokens), *_columns(pieces))))
    for (start, end), i, j in zip(tokens, first, last, strict=True):
        sharing = [
            k for k, (piece_start, piece_end) in enumerate(pieces) if max(start, piece_start) < min(end, piece_end)
        ]
        if start < end:
            assert list(range(i, j)) == sharing


def _columns(pairs: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [a for a, _ in pairs], [b for _, b in pairs]


def test_a_lone_surrogate_is_refused_by_spacy_itself():
    """So no Doc with one can reach the encoder."""
    with pytest.raises(UnicodeEncodeError):
        English("a\ud800")
    with pytest.raises(UnicodeEncodeError):
        Doc(vocab, words=["a\ud800"])
