"""Convert GoEmotions to `train.spacy`, `dev.spacy` and `test.spacy`: 27 emotions and neutral, of which several may hold, and
the sentiment, of which one does.

The published dev part is for testing. Of the published train part, a share chosen by a hash of the text is for choosing the
best state. The sentiment is the group of the text's emotions (Demszky et al. 2020, and `sentiment_dict.json` in its code).
Where they are of several groups: neutral and ambiguous ones yield to positive or negative ones, neutral to ambiguous ones;
positive and negative ones together (2 % of the texts) make an ambiguous sentiment.
"""

import csv
from collections import Counter
from pathlib import Path

import spacy
import typer
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from wasabi import msg

from spacy_distil.corpora.text import is_held_out

DEV = 0.05
# The sentiments are in capitals, because neutral is also one of the 28 labels.
GROUPS = {
    "AMBIGUOUS": ["confusion", "curiosity", "realization", "surprise"],
    "NEGATIVE": [
        "anger",
        "annoyance",
        "disappointment",
        "disapproval",
        "disgust",
        "embarrassment",
        "fear",
        "grief",
        "nervousness",
        "remorse",
        "sadness",
    ],
    "NEUTRAL": ["neutral"],
    "POSITIVE": [
        "admiration",
        "amusement",
        "approval",
        "caring",
        "desire",
        "excitement",
        "gratitude",
        "joy",
        "love",
        "optimism",
        "pride",
        "relief",
    ],
}


def prepare_goemotions(train: Path, dev: Path, labels: Path, output: Path) -> None:
    """TRAIN, DEV, LABELS: the set's train.tsv, dev.tsv and labels.txt. OUTPUT: the folder of the three files."""
    nlp = spacy.blank("en")
    emotions = labels.read_text(encoding="utf8").split()
    parts: dict[str, list[Doc]] = {"train": [], "dev": [], "test": read_docs(dev, nlp, emotions)}
    for doc in read_docs(train, nlp, emotions):
        parts["dev" if is_held_out(doc.text, DEV) else "train"].append(doc)
    output.mkdir(parents=True, exist_ok=True)
    for part, docs in parts.items():
        DocBin(docs=docs).to_disk(output / f"{part}.spacy")
        counts = Counter(label for doc in docs for label in GROUPS if doc.cats[label])
        shares = ", ".join(f"{100 * counts[label] / len(docs):.0f} % {label}" for label in GROUPS)
        msg.good(f"{output / f'{part}.spacy'}: {len(docs)} comments, {shares}")


def read_docs(path: Path, nlp: Language, emotions: list[str]) -> list[Doc]:
    """Lines of text, numbers of the labels, and the comment's id, with tabs between."""
    with path.open(encoding="utf8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [make_doc(nlp, text, [emotions[int(number)] for number in numbers.split(",")]) for text, numbers, _ in rows]


def make_doc(nlp: Language, text: str, chosen: list[str]) -> Doc:
    doc = nlp.make_doc(" ".join(text.split()))
    sentiment = find_sentiment(chosen)
    doc.cats = {emotion: float(emotion in chosen) for emotions in GROUPS.values() for emotion in emotions}
    doc.cats.update({label: float(label == sentiment) for label in GROUPS})
    return doc


def find_sentiment(chosen: list[str]) -> str:
    """The one sentiment of a text with these emotions."""
    groups = {label for label, emotions in GROUPS.items() if not set(emotions).isdisjoint(chosen)}
    decided = groups & {"POSITIVE", "NEGATIVE"}
    if len(decided) == 1:
        return decided.pop()
    return "NEUTRAL" if groups == {"NEUTRAL"} else "AMBIGUOUS"


if __name__ == "__main__":
    typer.run(prepare_goemotions)
