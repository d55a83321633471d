"""Convert the reviews corpus to `train.spacy`, `dev.spacy` and `test.spacy`, by the split that each review names, and its
sentences with their translations to files of the same names in a folder `sentences`."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import spacy
import srsly
import typer
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from wasabi import msg

from spacy_distil.pipeline.references import register_references

SENTIMENTS = ("negative", "neutral", "positive")
ASPECTS = ("comfort", "content", "delivery", "location", "price", "quality", "service", "usability")
SPLITS = ("train", "dev", "test")


def prepare_reviews(reviews: Path, output: Path) -> None:
    """REVIEWS: the corpus, a JSON object a line. OUTPUT: the folder of the files."""
    register_references()
    nlp = spacy.blank("en")
    docs: dict[str, list[Doc]] = defaultdict(list)
    sentences: dict[str, list[Doc]] = defaultdict(list)
    for review in srsly.read_jsonl(reviews):
        docs[review["split"]].append(make_doc(nlp, review))
        sentences[review["split"]] += make_sentences(nlp, review)
    for folder, parts, what in ((output, docs, "reviews"), (output / "sentences", sentences, "sentences")):
        folder.mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            path = folder / f"{split}.spacy"
            DocBin(docs=parts[split], store_user_data=True).to_disk(path)
            msg.good(f"{path}: {len(parts[split])} {what}")


def make_doc(nlp: Language, review: dict[str, Any]) -> Doc:
    """Sentiment and aspects as `doc.cats`, entities as `doc.ents`, and what spaCy has no place for as extensions. Raises
    ValueError for an entity that cuts a token."""
    doc = nlp.make_doc(review["text"])
    doc.cats = {label: float(label == review["sentiment"]) for label in SENTIMENTS}
    doc.cats.update({label: float(label in review["aspects"]) for label in ASPECTS})
    spans = []
    for start, end, label in review["entities"]:
        if (span := doc.char_span(start, end, label)) is None:
            raise ValueError(f"{review['id']}: {label} {doc.text[start:end]!r} does not start and end where tokens do.")
        spans.append(span)
    doc.set_ents(spans)
    sentence_starts = {start for start, _ in review["sentences"]}
    for token in doc:
        token.is_sent_start = token.idx in sentence_starts
    doc._.questions = [
        {
            "id": f"{review['id']}-{i}",
            "question": asked["question"],
            "answers": [] if asked["answer"] is None else [{"text": asked["answer"], "start": asked["start"]}],
        }
        for i, asked in enumerate(review["questions"])
    ]
    doc._.summaries, doc._.salient = [review["summary"]], review["salient"]
    doc._.translations = [" ".join(review["german"])]
    return doc


def make_sentences(nlp: Language, review: dict[str, Any]) -> list[Doc]:
    """A Doc for each sentence, with its translation."""
    docs = []
    for (start, end), german in zip(review["sentences"], review["german"], strict=True):
        doc = nlp.make_doc(review["text"][start:end])
        doc._.translations = [german]
        docs.append(doc)
    return docs


if __name__ == "__main__":
    typer.run(prepare_reviews)
