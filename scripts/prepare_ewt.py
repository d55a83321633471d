"""Convert UD English EWT to `train.spacy`, `dev.spacy` and `test.spacy`.

The published dev part is for testing. Of the published train part, a share chosen by a hash of the text is for choosing the
best state. A Doc has up to ten consecutive sentences of one document, so that there are sentences to tell apart. Multi-word
tokens stay divided into their words, as `spacy convert` leaves them: spaCy's English tokenizer divides `don't` in the same
place.
"""

from collections.abc import Iterator
from pathlib import Path

import typer
from spacy.tokens import Doc, DocBin
from spacy.training.converters import conllu_to_docs
from wasabi import msg

from spacy_distil.corpora.text import is_held_out

SENTENCES = 10
DEV = 0.05


def prepare_ewt(train: Path, dev: Path, output: Path) -> None:
    """TRAIN, DEV: the set's .conllu files. OUTPUT: the folder of the three files."""
    parts: dict[str, list[Doc]] = {"train": [], "dev": [], "test": list(read_docs(dev))}
    for doc in read_docs(train):
        parts["dev" if is_held_out(doc.text, DEV) else "train"].append(doc)
    output.mkdir(parents=True, exist_ok=True)
    for part, docs in parts.items():
        DocBin(docs=docs).to_disk(output / f"{part}.spacy")
        n_sentences, n_words = sum(len(list(doc.sents)) for doc in docs), sum(map(len, docs))
        msg.good(f"{output / f'{part}.spacy'}: {len(docs)} Docs, {n_sentences} sentences, {n_words} words")


def read_docs(path: Path) -> Iterator[Doc]:
    for sentences in group_sentences(path.read_text(encoding="utf8")):
        for doc in conllu_to_docs("\n\n".join(sentences), n_sents=len(sentences), no_print=True):
            for token in doc:
                if token.lemma_ == "_" != token.text:  # of a word written in two the second part has no lemma
                    token.lemma_ = ""
            yield doc


def group_sentences(conllu: str) -> Iterator[list[str]]:
    """Up to `SENTENCES` consecutive sentences of one document, each with its comments."""
    group: list[str] = []
    for sentence in conllu.strip().split("\n\n"):
        is_new = any(line.startswith("# newdoc") for line in sentence.splitlines())
        if group and (is_new or len(group) == SENTENCES):
            yield group
            group = []
        group.append(sentence)
    yield group


if __name__ == "__main__":
    typer.run(prepare_ewt)
