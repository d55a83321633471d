"""The target vocabulary: pieces trained on the references, and text from pieces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, WordPiece
from tokenizers.trainers import BpeTrainer, WordPieceTrainer

from spacy_distil.encoder.tokenizer import SPECIAL_TOKENS, PieceTokenizer
from spacy_distil.errors import ComponentError

Kind = Literal["bpe", "wordpiece", "source"]
SPACE = "▁"
ROLES = ("pad_token", "unk_token", "cls_token", "sep_token")


def check_kind(kind: str) -> None:
    if kind not in get_args(Kind):
        raise ComponentError(f"vocabulary = {kind!r} is not known. Known are {', '.join(get_args(Kind))}.")


def train_vocabulary(texts: Iterable[str], *, kind: Kind, size: int, max_length: int) -> PieceTokenizer:
    """Pieces of cased text that can be put together again to the very text, but for white space.

    texts: those to learn from.
    kind: `bpe` (Sennrich et al. 2016) or `wordpiece`.
    size: the number of pieces, the special ones included.
    max_length: the longest sequence that the decoder writes.
    """
    special = [SPECIAL_TOKENS[role] for role in ROLES]
    unknown = SPECIAL_TOKENS["unk_token"]
    if kind == "bpe":
        tokenizer = Tokenizer(BPE(unk_token=unknown))
        trainer = BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False)
        tokenizer.decoder = decoders.Metaspace(SPACE)
    else:
        tokenizer = Tokenizer(WordPiece(unk_token=unknown))
        trainer = WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
        tokenizer.decoder = decoders.Sequence([decoders.Replace("##", ""), decoders.Metaspace(SPACE)])
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(SPACE),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    tokenizer.train_from_iterator(texts, trainer)
    roles = {role: SPECIAL_TOKENS[role] for role in ROLES}
    return PieceTokenizer.create(tokenizer, max_length=max_length, special_tokens=roles)


def size_of(tokenizer: PieceTokenizer) -> int:
    return tokenizer.tokenizer.get_vocab_size(with_added_tokens=True)


def encode(tokenizer: PieceTokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode(texts)]


def decode(tokenizer: PieceTokenizer, targets: Sequence[Sequence[int]]) -> list[str]:
    return [text.strip() for text in tokenizer.tokenizer.decode_batch([list(ids) for ids in targets])]


def silent_ids(tokenizer: PieceTokenizer) -> list[int]:
    """The pieces that are never written: the special ones but the one that ends a text."""
    ids = {tokenizer.tokenizer.token_to_id(piece) for piece in tokenizer.special_tokens.values()}
    return sorted(i for i in ids - {tokenizer.sep_id} if i is not None)
