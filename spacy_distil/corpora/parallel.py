"""Texts and their translations, from lines with a tab between, as Tatoeba's (www.manythings.org/anki), or from lines of JSON.

Sets `doc._.translations`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc

from spacy_distil.corpora.files import RECORDS, check_whole, count_unreferenced, read_lines, read_records
from spacy_distil.errors import CorpusError
from spacy_distil.pipeline.references import register_references

Pair = tuple[str, list[str]]


def read(path: Path, nlp: Language) -> Iterator[Doc]:
    """A Doc for each text; neighbouring lines of the same text are one Doc with several translations.

    A `.jsonl` file has objects with `text` or `source`, a string, and `translations`, `translation` or `target`, a string or a
    list of them. Any other file has lines of a text, a tab, a translation, and perhaps another tab with more, which is passed
    over; either may be compressed as `.gz`. Empty lines, and translations without text, are left out.

    It warns of texts without a translation, with their number, at the end.

    RAISES: CorpusError for a file that can't be read, and for a line without text or translation.
    """
    register_references()
    return count_unreferenced(_read(path, nlp), lambda doc: bool(doc._.translations), path, "translation")


def _read(path: Path, nlp: Language) -> Iterator[Doc]:
    pairs = _read_records(path) if path.name.endswith(RECORDS) else _read_tabs(path)
    for text, group in groupby(pairs, key=lambda pair: pair[0]):
        doc = nlp.make_doc(text)
        translations = [translation for _, row in group for translation in row if translation.strip()]
        doc._.translations = list(dict.fromkeys(translations))
        yield doc


def _read_tabs(path: Path) -> Iterator[Pair]:
    for place, line, _ in read_lines(path):
        if not line.strip():
            continue
        text, *fields = line.split("\t")
        if not fields or not text.strip():
            what = "no tab" if not fields else "nothing before its tab"
            raise CorpusError(f"{place} has {what}: {line[:60]!r}. A line is a text, a tab, and its translation.")
        yield text, [fields[0]]


def _read_records(path: Path) -> Iterator[Pair]:
    for place, record in read_records(path):
        text = _find(place, record, ("text", "source"))
        translations = _find(place, record, ("translations", "translation", "target"))
        rows = [translations] if isinstance(translations, str) else translations
        if not isinstance(text, str) or not isinstance(rows, list) or not all(isinstance(row, str) for row in rows):
            raise CorpusError(
                f"{place}: the text is not a string, or the translation neither a string nor a list of them."
            )
        check_whole(place, text, *rows)
        if text.strip():
            yield text, rows


def _find(place: str, record: dict[str, Any], names: tuple[str, ...]) -> Any:
    name = next((name for name in names if name in record), None)
    if name is None:
        raise CorpusError(
            f"{place} has none of {', '.join(map(repr, names))}: it is an object with "
            f"{', '.join(map(repr, record)) or 'nothing'}."
        )
    return record[name]
