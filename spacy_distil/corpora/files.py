"""Files of texts, read a line at a time. Every fault names its file and line."""

from __future__ import annotations

import codecs
import gzip
import json
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from spacy.tokens import Doc, DocBin
from spacy.vocab import Vocab

from spacy_distil.characters import is_whole
from spacy_distil.errors import CorpusError

DOCS = ".spacy"
LINES = (".txt", ".txt.gz")
RECORDS = (".jsonl", ".jsonl.gz")
ENDINGS = (*LINES, *RECORDS, DOCS)


def find_files(paths: Sequence[str]) -> list[Path]:
    """The files that are named, and those below the folders that are named: of one folder in the order of their names, without
    hidden files and files of other kinds.

    RAISES: CorpusError for a path that is not there, a file of another kind, and a folder with no file of a kind that is read.
    """
    return [file for path in paths for file in _find(Path(path))]


def _find(path: Path) -> list[Path]:
    if path.is_dir():
        below = sorted(file for file in path.rglob("*") if file.is_file() and file.name.endswith(ENDINGS))
        files = [file for file in below if not any(part.startswith(".") for part in file.relative_to(path).parts)]
        if not files:
            raise CorpusError(f"The folder '{path}' has no file of texts. Such a file ends in {', '.join(ENDINGS)}.")
        return files
    if not path.exists():
        raise CorpusError(f"There is no file or folder '{path}' to read texts from.")
    if not path.name.endswith(ENDINGS):
        raise CorpusError(f"'{path}' is no file of texts: its name ends in none of {', '.join(ENDINGS)}.")
    return [path]


def read_docs(path: Path, vocab: Vocab) -> Iterator[Doc]:
    """The Docs of a `.spacy` file. It is one compressed block, so their arrays are in memory together.

    RAISES: CorpusError for a file that is damaged.
    """
    try:
        docs = DocBin().from_disk(path)
    except OSError:
        raise
    except Exception as error:  # msgpack's or numpy's, by the place of the damage
        raise CorpusError(f"'{path}' is damaged, or no file that DocBin or `spacy convert` wrote: {error}") from error
    yield from docs.get_docs(vocab)


def read_texts(path: Path, field: str) -> Iterator[str]:
    """The texts of a file of lines or of JSON objects, a text for each. Empty lines are skipped.

    field: the object's key that holds the text.
    RAISES: CorpusError for a file that is damaged or cut off, and for a line that is no text.
    """
    is_lines = path.name.endswith(LINES)
    for place, line, is_last in read_lines(path):
        if line.strip():
            yield line if is_lines else _read_record(place, line, field, is_last)


def read_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON objects of a file that has one a line, and the place of each, for errors. Empty lines are skipped.

    RAISES: CorpusError for a file that is damaged or cut off, and for a line that is no object.
    """
    for place, line, is_last in read_lines(path):
        if line.strip():
            record = _parse(place, line, is_last)
            if not isinstance(record, dict):
                raise CorpusError(f"{place} is no JSON object: {line[:60]}")
            yield place, record


def read_lines(path: Path) -> Iterator[tuple[str, str, bool]]:
    """Each line's place, its text without the line break, and whether the file ended before a line break."""
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                place, is_last = f"'{path}', line {number}", not line.endswith(b"\n")
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                try:
                    text = line.decode("utf8")
                except UnicodeDecodeError as error:
                    if is_last and error.end == len(line):
                        raise CorpusError(f"{place}: the file is cut off, in the middle of a character.") from error
                    raise CorpusError(f"{place} is not UTF-8: {error}. Convert the file to UTF-8.") from error
                yield place, text.rstrip("\r\n"), is_last
    except EOFError as error:
        raise CorpusError(f"'{path}', after line {number}: the compressed file is cut off. Make it anew.") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise CorpusError(f"'{path}', after line {number}: the compressed file is damaged: {error}") from error


def _read_record(place: str, line: str, field: str, is_last: bool) -> str:
    record = _parse(place, line, is_last)
    if not isinstance(record, dict) or field not in record:
        has = f"an object with {', '.join(map(repr, record))}" if isinstance(record, dict) and record else line[:60]
        raise CorpusError(f"{place} has no field '{field}', it is {has}. Set `field` to the one that holds the text.")
    text = record[field]
    if not isinstance(text, str):
        raise CorpusError(f"{place}: the field '{field}' is {json.dumps(text)[:60]}, not a text.")
    check_whole(place, text)
    return text


def count_unreferenced(
    docs: Iterable[Doc], has_reference: Callable[[Doc], bool], path: Path, what: str
) -> Iterator[Doc]:
    """The same Docs, and a warning at the end that says how many of them have nothing to be learnt.

    path: of their file. what: they lack.
    """
    n_docs = n_without = 0
    for doc in docs:
        n_docs += 1
        n_without += not has_reference(doc)
        yield doc
    if n_without:
        warnings.warn(
            f"{n_without} of {n_docs} texts of '{path}' have no reference: no {what}. Nothing is learnt from these, unless "
            "by a teacher.",
            stacklevel=2,
        )


def check_whole(place: str, *texts: str) -> None:
    """Raises CorpusError for half of a character, which JSON can have as `\\ud800`, and nothing else can read."""
    for text in texts:
        if not is_whole(text):
            raise CorpusError(f"{place}: the text {text[:60]!r} has half of a character. Mend it.")


def _parse(place: str, line: str, is_last: bool) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        if is_last:
            raise CorpusError(f"{place}: the file is cut off, the last line is no whole JSON: {error}") from error
        raise CorpusError(f"{place} is no JSON: {error}") from error
