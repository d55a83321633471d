"""Convert the reviews corpus to `train.spacy`, `dev.spacy` and `test.spacy`, by the split that each review names."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import spacy
import srsly
import typer
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from wasabi import msg

SENTIMENTS = ("negative", "neutral", "positive")
ASPECTS = ("comfort", "content", "delivery", "location", "price", "quality", "service", "usability")
SPLITS = ("train", "dev", "test")


def prepare_reviews(reviews: Path, output: Path) -> None:
    """REVIEWS: the corpus, a JSON object a line. OUTPUT: the folder of the three files."""
    nlp = spacy.blank("en")
    docs: dict[str, list[Doc]] = defaultdict(list)
    for review in srsly.read_jsonl(reviews):
        docs[review["split"]].append(make_doc(nlp, review))
    output.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        DocBin(docs=docs[split]).to_disk(output / f"{split}.spacy")
        msg.good(f"{output / f'{split}.spacy'}: {len(docs[split])} reviews")


def make_doc(nlp: Language, review: dict[str, Any]) -> Doc:
    """Sentiment and aspects as `doc.cats`, entities as `doc.ents`. Raises ValueError for an entity that cuts a token."""
    doc = nlp.make_doc(review["text"])
    doc.cats = {label: float(label == review["sentiment"]) for label in SENTIMENTS}
    doc.cats.update({label: float(label in review["aspects"]) for label in ASPECTS})
    spans = []
    for start, end, label in review["entities"]:
        if (span := doc.char_span(start, end, label)) is None:
            raise ValueError(f"{review['id']}: {label} {doc.text[start:end]!r} does not start and end where tokens do.")
        spans.append(span)
    doc.set_ents(spans)
    return doc


if __name__ == "__main__":
    typer.run(prepare_reviews)
