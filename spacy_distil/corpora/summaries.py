"""Texts with reference summaries or salient sentences, from lines of JSON; and the reader for `[corpora]` that gives a pipeline
the corpus's own sentences.

Sets `doc._.summaries`, `doc._.salient` and the Doc's sentence boundaries, as far as the file has them.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from spacy_distil.corpora.files import DOCS, check_whole, count_unreferenced, find_files, read_docs, read_records
from spacy_distil.errors import CorpusError
from spacy_distil.pipeline.references import register_references
from spacy_distil.pipeline.summarization.labels import has_labels


def read(path: Path, nlp: Language) -> Iterator[Doc]:
    """A Doc for each line of a `.jsonl` file, which is an object with some of these keys:

    - `text`, a string, with `sentences`, a list of [first character, the one behind the last], if they are known; or `source`,
      as SciTLDR has it (Cachola et al. 2020), or `sentences` without a text, a list of strings;
    - `summary`, `summaries` or `target`, a string or a list of them;
    - `salient`, a list of the salient sentences' numbers, from 0; or `source_labels`, 1 for each that is, else 0.

    A sentence begins with the token in which its first character stands. One without a token is no sentence.

    It warns of texts that have neither a summary with a word nor salient sentences, with their number, at the end.

    RAISES: CorpusError for a file that can't be read, and for a line with none of the texts or something else in its place.
    """
    register_references()
    return count_unreferenced(_read(path, nlp), has_labels, path, "summary and no salient sentences")


def _read(path: Path, nlp: Language) -> Iterator[Doc]:
    for place, record in read_records(path):
        yield _Record(place, record).to_doc(nlp)


class SummaryCorpus:
    """Gives a pipeline its Examples, from the files anew each time."""

    def __init__(self, path: str | list[str] | None) -> None:
        if not path:
            raise CorpusError("A corpus of summaries needs a `path`: a file, a folder, or a list of them.")
        self.paths = [path] if isinstance(path, str) else path

    def __call__(self, nlp: Language) -> Iterator[Example]:
        """RAISES: CorpusError for files that can't be read."""
        register_references()
        for file in find_files(self.paths):
            for reference in read_docs(file, nlp.vocab) if file.name.endswith(DOCS) else _read(file, nlp):
                yield Example(with_sentences(reference), reference)


@spacy.registry.readers("spacy-distil.SummaryCorpus.v1")
def summary_corpus(path: str | list[str] | None) -> Callable[[Language], Iterable[Example]]:
    """Texts with summaries, for `[corpora]`. As `spacy.Corpus.v1`, but the pipeline gets the tokens and the sentence boundaries
    of the corpus: a `sentencizer` leaves those as they are, and none is needed.

    path (Union[str, List[str]]): files, or folders of them: `.jsonl`, see `read`, or `.spacy` with user data.
    RAISES: CorpusError without a path, here; for files that can't be read, when they are.
    """
    return SummaryCorpus(path)


def with_sentences(reference: Doc) -> Doc:
    """A Doc of the same tokens and sentences, without other annotation."""
    words, spaces = [token.text for token in reference], [bool(token.whitespace_) for token in reference]
    if not reference.has_annotation("SENT_START"):
        return Doc(reference.vocab, words=words, spaces=spaces)
    return Doc(reference.vocab, words=words, spaces=spaces, sent_starts=[token.is_sent_start for token in reference])


class _Record:
    """A line of the file. place: where it is, for errors."""

    def __init__(self, place: str, record: dict[str, Any]) -> None:
        self.place = place
        self.record = record

    def to_doc(self, nlp: Language) -> Doc:
        text, offsets = self._find_text()
        doc = nlp.make_doc(text)
        numbers: list[int] | None = None
        if offsets is not None:
            numbers = _set_sentences(doc, offsets)
        doc._.summaries = self._find_summaries()
        doc._.salient = self._find_salient(numbers)
        return doc

    def _find_text(self) -> tuple[str, list[tuple[int, int]] | None]:
        """The text, and where each sentence begins and ends, if that is known."""
        text, sentences = self.record.get("text"), self.record.get("sentences")
        if text is None:
            texts = self._strings("source" if "source" in self.record else "sentences")
            if texts is None:
                raise self._error("has no text", "Give it `text`, a string, or `source`, a list of sentences.")
            ends = list(accumulate(len(sentence) + 1 for sentence in texts))
            return " ".join(texts), [(end - 1 - len(sent), end - 1) for sent, end in zip(texts, ends, strict=True)]
        if not isinstance(text, str):
            raise self._error("has a `text` that is no string", "Give it one.")
        check_whole(self.place, text)
        if sentences is None:
            return text, None
        if not _are_offsets(sentences, len(text)):
            raise self._error(
                f"has `sentences` that are not offsets in its text of {len(text)} characters, in order: {sentences}",
                "Give a list of [first character, the one behind the last].",
            )
        return text, [(start, end) for start, end in sentences]

    def _find_summaries(self) -> list[str] | None:
        key = next((key for key in ("summaries", "summary", "target") if self.record.get(key) is not None), None)
        return None if key is None else self._strings(key)

    def _find_salient(self, numbers: Sequence[int] | None) -> list[int] | None:
        """numbers: of the Doc's own sentences, for each of the record's; -1 for one that has no token."""
        salient = self.record.get("salient")
        if salient is None and (labels := self.record.get("source_labels")) is not None:
            if not isinstance(labels, list) or len(labels) != len(numbers or ()):
                raise self._error(f"has {len(labels)} `source_labels` for {len(numbers or ())} sentences", "Mend it.")
            salient = [i for i, label in enumerate(labels) if label]
        if salient is None:
            return None
        if numbers is None:
            raise self._error(
                "has `salient`, but no sentences that it could name", "Give their offsets as `sentences`."
            )
        if not all(isinstance(i, int) and 0 <= i < len(numbers) for i in salient):
            raise self._error(f"has `salient` {salient} of {len(numbers)} sentences, counted from 0", "Mend it.")
        return sorted({numbers[i] for i in salient} - {-1})

    def _strings(self, key: str) -> list[str] | None:
        value = self.record.get(key)
        values = [value] if isinstance(value, str) and key != "source" else value
        if values is not None and not (isinstance(values, list) and all(isinstance(each, str) for each in values)):
            raise self._error(f"has a `{key}` that is no list of strings: {json.dumps(value)[:60]}", "Mend it.")
        check_whole(self.place, *(values or ()))
        return values

    def _error(self, what: str, remedy: str) -> CorpusError:
        return CorpusError(f"{self.place} {what}. {remedy}")


def _set_sentences(doc: Doc, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Set the boundaries, and give the number that each sentence has in the Doc; -1 where it has no token there."""
    first_characters = [token.idx for token in doc]
    starts = []
    for start, end in offsets:
        words = doc.text[start:end].lstrip()
        # Tokens of white space that stand before its first word belong to it, unless they hang on the sentence before.
        with_word = bisect_right(first_characters, end - len(words)) - 1
        starts.append(min(bisect_left(first_characters, start), with_word) if words else -1)
    known = set(starts) - {-1}
    if not known or not doc[: min(known)].text.isspace():
        known.add(0)
    ordered = sorted(known)
    for token in doc:
        token.is_sent_start = token.i == 0 or token.i in ordered[1:]
    return [ordered.index(start) if start >= 0 else -1 for start in starts]


def _are_offsets(sentences: Any, length: int) -> bool:
    if not isinstance(sentences, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in sentences):
        return False
    flat = [offset for pair in sentences for offset in pair]
    return (
        all(isinstance(i, int) for i in flat)
        and flat == sorted(flat)
        and (not flat or 0 <= flat[0] <= flat[-1] <= length)
    )
