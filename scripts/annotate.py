"""Run an installed pipeline on a text, and print and write what it says."""

from pathlib import Path

import spacy
import srsly
import typer
from wasabi import msg


def annotate(pipeline: str, text: str, output: Path) -> None:
    """PIPELINE: name of the package. OUTPUT: a JSON file."""
    doc = spacy.load(pipeline)(text)
    categories = {label: round(score, 3) for label, score in doc.cats.items()}
    entities = [{"text": ent.text, "label": ent.label_} for ent in doc.ents]
    print(f"\n{text}\n")
    msg.table(sorted(categories.items(), key=lambda item: -item[1]), header=("Category", "Score"), divider=True)
    msg.table([(ent["text"], ent["label"]) for ent in entities], header=("Entity", "Label"), divider=True)
    srsly.write_json(output, {"text": text, "categories": categories, "entities": entities})


if __name__ == "__main__":
    typer.run(annotate)
