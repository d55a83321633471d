"""Convert WNUT 17 (emerging entities) to `train.spacy`, `dev.spacy` and `test.spacy`.

The published dev part is for testing. Of the published train part, a share chosen by a hash of the text is for choosing the
best state. A Doc is a post. The spaces between its tokens are not known: spaCy then takes the tokens as they are.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import typer
from spacy.tokens import Doc, DocBin
from spacy.training import biluo_tags_to_spans, iob_to_biluo
from spacy.vocab import Vocab
from wasabi import msg

from spacy_distil.corpora.text import is_held_out

DEV = 0.1


def prepare_wnut17(train: Path, dev: Path, output: Path) -> None:
    """TRAIN, DEV: the set's .conll files. OUTPUT: the folder of the three files."""
    vocab = Vocab()
    parts: dict[str, list[Doc]] = {"train": [], "dev": [], "test": list(read_docs(dev, vocab))}
    for doc in read_docs(train, vocab):
        parts["dev" if is_held_out(doc.text, DEV) else "train"].append(doc)
    output.mkdir(parents=True, exist_ok=True)
    for part, docs in parts.items():
        DocBin(docs=docs).to_disk(output / f"{part}.spacy")
        n_entities = sum(len(doc.ents) for doc in docs)
        msg.good(f"{output / f'{part}.spacy'}: {len(docs)} posts, {sum(map(len, docs))} tokens, {n_entities} entities")


def read_docs(path: Path, vocab: Vocab) -> Iterator[Doc]:
    """Lines of token, tab and IOB tag; empty ones between posts."""
    for is_post, lines in groupby(path.read_text(encoding="utf8").split("\n"), key=lambda line: bool(line.strip())):
        if is_post:
            words, tags = zip(*(line.split("\t") for line in lines), strict=True)
            doc = Doc(vocab, words=list(words))
            doc.ents = biluo_tags_to_spans(doc, iob_to_biluo(tags))
            yield doc


if __name__ == "__main__":
    typer.run(prepare_wnut17)
