"""The reader of texts with or without annotation, for `[corpora]`: a stream that is as long as its files are."""

import hashlib
import random
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Literal, TypeVar

import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from spacy_distil.corpora.files import DOCS, find_files, read_docs, read_texts
from spacy_distil.errors import CorpusError

Part = Literal["train", "held_out"]
Item = TypeVar("Item")


class TextCorpus:
    """Gives a pipeline its Examples, from the files anew each time. The arguments are those of `text_corpus`."""

    def __init__(
        self,
        path: str | list[str] | None,
        *,
        field: str = "text",
        limit: int = 0,
        max_length: int = 0,
        held_out: float = 0.0,
        part: Part = "train",
        shuffle: int = 0,
    ) -> None:
        if not path:
            raise CorpusError("A corpus of texts needs a `path`: a file, a folder, or a list of them.")
        if not 0 <= held_out < 1:
            raise CorpusError(f"held_out = {held_out}: the share of the texts is at least 0 and less than 1.")
        if part == "held_out" and held_out == 0:
            raise CorpusError(
                'part = "held_out" with held_out = 0.0 has no text. Set held_out to a share, such as 0.05.'
            )
        self.paths = [path] if isinstance(path, str) else path
        self.field = field
        self.limit = limit
        self.max_length = max_length
        self.held_out = held_out
        self.part = part
        self.shuffle = shuffle

    def __call__(self, nlp: Language) -> Iterator[Example]:
        """RAISES: CorpusError for files that can't be read, and where there is no text at all."""
        sources: Iterable[str | Doc] = self._read(nlp)
        if self.limit:
            sources = islice(sources, self.limit)
        if self.shuffle:
            sources = draw_at_random(sources, self.shuffle)
        source = None
        for source in sources:
            yield from self._make_examples(nlp, source)
        if source is None:
            raise CorpusError(
                f"There is no text in {', '.join(map(repr, self.paths))}"
                + (
                    f", or none that is in the part '{self.part}' with held_out = {self.held_out}."
                    if self.held_out
                    else "."
                )
            )

    def _read(self, nlp: Language) -> Iterator[str | Doc]:
        """The texts and Docs of the part, whole."""
        wanted = self.part == "held_out"
        for file in find_files(self.paths):
            if file.name.endswith(DOCS):
                docs = read_docs(file, nlp.vocab)
                yield from (doc for doc in docs if len(doc) and is_held_out(doc.text, self.held_out) == wanted)
            else:
                texts = read_texts(file, self.field)
                yield from (text for text in texts if is_held_out(text, self.held_out) == wanted)

    def _make_examples(self, nlp: Language, source: str | Doc) -> Iterator[Example]:
        if isinstance(source, str):
            for piece in cut(source, self.max_length or nlp.max_length):
                doc = nlp.make_doc(piece)
                yield Example(doc, doc.copy())
        elif source.has_unknown_spaces:
            yield Example(Doc(nlp.vocab, words=[token.text for token in source]), source)
        else:
            yield Example(nlp.make_doc(source.text), source)


@spacy.registry.readers("spacy-distil.TextCorpus.v1")
def text_corpus(
    path: str | list[str] | None,
    field: str = "text",
    limit: int = 0,
    max_length: int = 0,
    held_out: float = 0.0,
    part: Literal["train", "held_out"] = "train",
    shuffle: int = 0,
) -> Callable[[Language], Iterable[Example]]:
    """Texts for a student to learn from its teacher, or to measure their agreement on, in `[corpora]`.

    Texts have no annotation; Docs of a `.spacy` file keep theirs, as with `spacy.Corpus.v1`. Of a file one line is in memory
    (of a `.spacy` file all of it), so that with `max_epochs = -1` a corpus may be of any size.

    path (Union[str, List[str]]): files, or folders of them, read in that order. `.txt` has a text a line, `.jsonl` an object a
        line, either may be compressed as `.gz`; `.spacy` is what `spacy convert` and DocBin write.
    field (str): the key of the objects that holds the text.
    limit (int): the most texts to read, all if 0.
    max_length (int): longer texts are cut between lines, else at white space, into pieces of at most so many characters;
        `nlp.max_length` if 0. The Docs of a `.spacy` file stay whole.
    held_out (float): the share of the texts that is held out, chosen by a hash of the text: in whatever file and order, the
        same text is always in the same part.
    part (Literal["train", "held_out"]): which of the two parts to read.
    shuffle (int): how many texts to hold, to draw the next one from at random. For `max_epochs = -1`, where spaCy keeps the
        corpus's own order.
    RAISES: CorpusError for settings that can't be, here; for files that can't be read, when they are.
    """
    return TextCorpus(
        path, field=field, limit=limit, max_length=max_length, held_out=held_out, part=part, shuffle=shuffle
    )


def is_held_out(text: str, share: float) -> bool:
    """Whether a text is in the share that is held out. What a smaller share holds out, a larger one does too."""
    digest = hashlib.blake2b(text.encode("utf8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def cut(text: str, max_length: int) -> list[str]:
    """Pieces of at most `max_length` characters, each as long as can be, in which all of the text's words are. A word is cut
    only if it is longer itself."""
    rest = f".{{0,{max_length - 1}}}"
    # All that is left, or up to the last line break, white space, or character that there is room for.
    pieces = re.findall(rf"\S(?:{rest}\Z|{rest}(?=\n)|{rest}(?=\s)|{rest})", text, flags=re.DOTALL)
    return [piece.rstrip() for piece in pieces]


def draw_at_random(items: Iterable[Item], size: int) -> Iterator[Item]:
    """All items, each the next of `size` that are held, at random. The order depends on the state of `random` at the start."""
    generator = random.Random(random.getrandbits(64))
    held: list[Item] = []
    for item in items:
        if len(held) < size:
            held.append(item)
        else:
            i = generator.randrange(size)
            held[i], item = item, held[i]
            yield item
    generator.shuffle(held)
    yield from held
