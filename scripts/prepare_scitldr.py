"""Convert SciTLDR's abstracts, their sentences and their summaries to `train.spacy`, `dev.spacy` and `test.spacy`.

The published dev part, where most abstracts have several summaries, is the test part. A tenth of the train part, chosen by a
hash of the text, is held out for choosing the best state.
"""

from pathlib import Path

import spacy
import typer
from spacy.tokens import Doc, DocBin
from wasabi import msg

from spacy_distil.corpora.summaries import read
from spacy_distil.corpora.text import is_held_out

DEV = 0.1


def prepare_scitldr(train: Path, dev: Path, output: Path) -> None:
    """TRAIN, DEV: the set's train.jsonl and dev.jsonl. OUTPUT: the folder of the three files."""
    nlp = spacy.blank("en")
    parts: dict[str, list[Doc]] = {"train": [], "dev": [], "test": list(read(dev, nlp))}
    for doc in read(train, nlp):
        parts["dev" if is_held_out(doc.text, DEV) else "train"].append(doc)
    output.mkdir(parents=True, exist_ok=True)
    for part, docs in parts.items():
        DocBin(docs=docs, store_user_data=True).to_disk(output / f"{part}.spacy")
        n_sentences, n_summaries = sum(len(list(doc.sents)) for doc in docs), sum(len(doc._.summaries) for doc in docs)
        msg.good(
            f"{output / f'{part}.spacy'}: {len(docs)} abstracts, {n_sentences / len(docs):.1f} sentences and "
            f"{n_summaries / len(docs):.1f} summaries each"
        )


if __name__ == "__main__":
    typer.run(prepare_scitldr)
