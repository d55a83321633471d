"""Write texts without labels, a JSON object a line, from sets of other forms."""

import shutil
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


@app.command()
def requests(output: Path, file: Path, domains: Path, names: list[str], beside: Path | None = None) -> None:
    """What customers ask in some domains of CLINC150, its train part. OUTPUT: a .jsonl file. FILE: the set's. DOMAINS: which
    intents are of which domain. NAMES: of domains.

    beside: a corpus that is copied into the folder, so that both can be read as one.
    """
    intents = srsly.read_json(domains)
    if unknown := [name for name in names if name not in intents]:
        msg.fail(f"{domains} has no domain {unknown[0]!r}", f"It has {', '.join(intents)}.", exits=1)
    wanted = {intent for name in names for intent in intents[name]}
    write(output, (text for text, intent in srsly.read_json(file)["train"] if intent in wanted))
    if beside is not None:
        shutil.copy(beside, output.parent)


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
