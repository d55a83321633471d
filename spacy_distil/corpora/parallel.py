"""Sentences and their translations, from lines of TSV or JSON, as Docs with `doc._.translations`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from spacy.language import Language
from spacy.tokens import Doc

from spacy_distil.errors import CorpusError
from spacy_distil.pipeline.references import register_references


def read(path: Path, nlp: Language) -> Iterator[Doc]:
    register_references()
    for text, pairs in groupby(read_pairs(path), key=lambda pair: pair[0]):
        doc = nlp.make_doc(text)
        doc._.translations = [translation for _, translation in pairs]
        yield doc


def read_pairs(path: Path) -> Iterator[tuple[str, str]]:
    with open(path, encoding="utf8") as file:
        for line in file:
            a, b = line.rstrip("\n").split("\t")
            yield a, b
