"""Convert Banking77's training part to `train.spacy`, `dev.spacy` and `test.spacy`.

The split is fixed: within each intent the questions are ordered by the SHA-256 of their text; the first fifth is for testing,
the next tenth for choosing the best state, the rest for training. A question that is there twice counts once.
"""

import csv
import hashlib
from collections import defaultdict
from pathlib import Path

import spacy
import typer
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from wasabi import msg

TEST, DEV = 0.2, 0.1
SPLITS = ("train", "dev", "test")


def prepare_banking77(questions: Path, output: Path) -> None:
    """QUESTIONS: the set's train.csv. OUTPUT: the folder of the three files."""
    with questions.open(encoding="utf8", newline="") as file:
        rows = [(" ".join(row["text"].split()), row["category"]) for row in csv.DictReader(file)]
    nlp = spacy.blank("en")
    intents = sorted({intent for _, intent in rows})
    output.mkdir(parents=True, exist_ok=True)
    for split, pairs in split_rows(rows).items():
        DocBin(docs=[make_doc(nlp, text, intent, intents) for text, intent in pairs]).to_disk(output / f"{split}.spacy")
        msg.good(f"{output / f'{split}.spacy'}: {len(pairs)} questions, {len({intent for _, intent in pairs})} intents")


def split_rows(rows: list[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Pairs of text and intent, once each, for each part."""
    by_intent: dict[str, set[str]] = defaultdict(set)
    for text, intent in rows:
        by_intent[intent].add(text)
    parts: dict[str, list[tuple[str, str]]] = {split: [] for split in SPLITS}
    for intent, texts in sorted(by_intent.items()):
        ordered = sorted(texts, key=digest)
        test, dev = round(TEST * len(ordered)), round((TEST + DEV) * len(ordered))
        parts["test"] += [(text, intent) for text in ordered[:test]]
        parts["dev"] += [(text, intent) for text in ordered[test:dev]]
        parts["train"] += [(text, intent) for text in ordered[dev:]]
    return parts


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf8")).hexdigest()


def make_doc(nlp: Language, text: str, intent: str, intents: list[str]) -> Doc:
    doc = nlp.make_doc(text)
    doc.cats = {label: float(label == intent) for label in intents}
    return doc


if __name__ == "__main__":
    typer.run(prepare_banking77)
