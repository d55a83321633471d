"""Split JSON of SQuAD's form by articles: all questions of one article are for training, or for choosing the best state."""

import json
from pathlib import Path

import typer
from wasabi import msg

from spacy_distil.corpora.squad import read_articles
from spacy_distil.corpora.text import is_held_out


def split_squad(input_path: Path, train: Path, dev: Path, share: float = 0.08) -> None:
    """INPUT_PATH: the file. TRAIN, DEV: where to write its parts. Which articles are in DEV is told by a hash of their titles.

    share: of the articles, for DEV.
    """
    articles = read_articles(input_path)
    for path, is_dev in ((train, False), (dev, True)):
        part = [article for article in articles if is_held_out(article["title"], share) == is_dev]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"version": "1.1", "data": part}), encoding="utf8")
        n_questions = sum(len(paragraph["qas"]) for article in part for paragraph in article["paragraphs"])
        msg.good(f"{path}: {len(part)} articles, {n_questions} questions")


if __name__ == "__main__":
    typer.run(split_squad)
