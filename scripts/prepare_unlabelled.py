"""Write texts without labels, a JSON object a line, from sets of other forms."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import srsly
import typer
from wasabi import msg

MIN_WORDS = 10  # a shorter line of Wikipedia is a title, a heading, or an item of a list

app = typer.Typer()


@app.command()
def wikipedia(output: Path, files: list[Path]) -> None:
    """The paragraphs of Wikipedia's articles. OUTPUT: a .jsonl file. FILES: what WikiExtractor wrote."""
    write(output, (text for file in files for text in read_paragraphs(file)))


@app.command()
def tweets(output: Path, files: list[Path]) -> None:
    """The tweets of the Broad Twitter Corpus, their tokens with spaces between. OUTPUT: a .jsonl file. FILES: the set's."""
    write(output, (text for file in files for text in read_posts(file)))


def read_paragraphs(path: Path) -> Iterator[str]:
    """A paragraph a line, articles between `<doc …>` and `</doc>`. Lines in which there is markup are passed over."""
    for line in path.read_text(encoding="utf8").split("\n"):
        if "<" not in line and len(line.split()) >= MIN_WORDS:
            yield line.strip()


def read_posts(path: Path) -> Iterator[str]:
    """Lines of token, tab and tag; empty ones between posts."""
    for is_post, lines in groupby(path.read_text(encoding="utf8").split("\n"), key=lambda line: bool(line.strip())):
        if is_post:
            yield " ".join(line.split("\t")[0] for line in lines)


def write(output: Path, texts: Iterator[str]) -> None:
    """Each text once."""
    unique = list(dict.fromkeys(texts))
    output.parent.mkdir(parents=True, exist_ok=True)
    srsly.write_jsonl(output, ({"text": text} for text in unique))
    msg.good(f"{output}: {len(unique)} texts, {sum(len(text.split()) for text in unique)} words")


if __name__ == "__main__":
    app()
