"""Convert pairs of sentences of Tatoeba to `train.spacy`, `dev.spacy` and `test.spacy`.

The split is fixed: by the SHA-256 of the source sentence, so that no sentence is in two parts, however often it is there.
"""

import hashlib
from pathlib import Path

import spacy
import typer
from spacy.tokens import Doc, DocBin
from wasabi import msg

from spacy_distil.corpora import parallel

SHARES = {"test": 0.04, "dev": 0.02}


def prepare_tatoeba(pairs: Path, output: Path) -> None:
    """PAIRS: a line for each pair, English TAB German. OUTPUT: the folder of the three files."""
    parts: dict[str, list[Doc]] = {"train": [], "dev": [], "test": []}
    for doc in parallel.read(pairs, spacy.blank("en")):
        parts[find_part(doc.text)].append(doc)
    output.mkdir(parents=True, exist_ok=True)
    for part, docs in parts.items():
        DocBin(docs=docs, store_user_data=True).to_disk(output / f"{part}.spacy")
        n_pairs = sum(len(doc._.translations) for doc in docs)
        msg.good(f"{output / f'{part}.spacy'}: {len(docs):,} sentences, {n_pairs:,} pairs")


def find_part(text: str) -> str:
    position = int(hashlib.sha256(text.encode("utf8")).hexdigest()[:8], 16) / 2**32
    if position < SHARES["test"]:
        return "test"
    return "dev" if position < SHARES["test"] + SHARES["dev"] else "train"


if __name__ == "__main__":
    typer.run(prepare_tatoeba)
