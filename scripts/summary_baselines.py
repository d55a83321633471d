"""ROUGE of extracts: the first sentences, sentences at random, the best by greedy ROUGE, and those of pipelines."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated

import spacy
import typer
from spacy.tokens import Doc
from spacy.training import Example
from wasabi import msg

from spacy_distil.corpora.summaries import summary_corpus
from spacy_distil.pipeline.summarization.labels import find_extract
from spacy_distil.pipeline.summarization.rouge import find_references, score_best

Scores = dict[str, float]  # rouge1_f, rouge2_f, rougeL_f, from 0 to 1
DRAWS = 10


def summary_baselines(
    corpus: Annotated[Path, typer.Argument(help="A .spacy or .jsonl file of texts with sentences and summaries")],
    pipelines: Annotated[
        list[str] | None, typer.Argument(help="NAME=PIPELINE; those of one name are runs of one kind")
    ] = None,
    sentences: Annotated[int, typer.Option(help="How many sentences the baselines take")] = 1,
    output: Annotated[Path | None, typer.Option(help="Where to write the table")] = None,
) -> None:
    examples = list(summary_corpus(str(corpus))(spacy.blank("en")))
    generator = random.Random(0)
    rows: dict[str, list[Scores]] = {
        "first": [measure(examples, lambda doc, _: [sent.text for sent in doc.sents][:sentences])],
        "random": [measure(examples, lambda doc, _: draw(doc, sentences, generator)) for _ in range(DRAWS)],
    }
    for name, path in (pair.split("=", 1) for pair in pipelines or []):
        rows.setdefault(name, []).append(evaluate(path, corpus))
    rows["oracle"] = [measure(examples, lambda doc, references: find_best(doc, references, sentences))]
    table = to_markdown(rows)
    print(table)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(table, encoding="utf8")
        msg.good(f"Wrote {output}")


def measure(examples: Sequence[Example], choose: Callable[[Doc, list[str]], Sequence[str]]) -> Scores:
    """The mean over the texts with references. choose: takes a Doc and its references, and gives the summary's sentences."""
    found = []
    for example in examples:
        if references := find_references(example.reference._.summaries):
            summary = " ".join(choose(example.reference, references))
            found.append(score_best(summary, references, example.reference.lang_))
    return {f"{kind}_f": sum(scores[kind] for scores in found) / len(found) for kind in found[0]}


def draw(doc: Doc, n: int, generator: random.Random) -> list[str]:
    texts = [sent.text for sent in doc.sents]
    return [texts[i] for i in sorted(generator.sample(range(len(texts)), min(n, len(texts))))]


def find_best(doc: Doc, references: Sequence[str], n: int) -> list[str]:
    texts = tuple(sent.text for sent in doc.sents)
    return [texts[i] for i in find_extract(texts, tuple(references), doc.lang_, n)]


def evaluate(pipeline: str, corpus: Path) -> Scores:
    nlp = spacy.load(pipeline)
    scores = nlp.evaluate(summary_corpus(str(corpus))(nlp))
    return {kind: scores[kind] for kind in ("rouge1_f", "rouge2_f", "rougeL_f")}


def to_markdown(rows: dict[str, list[Scores]]) -> str:
    """A row for each kind of summary; of several runs the mean and the standard deviation."""
    kinds = list(rows["first"][0])
    lines = [["", *kinds], ["---"] * (len(kinds) + 1)]
    for name, runs in rows.items():
        label = name if len(runs) == 1 else f"{name} ({len(runs)} runs)"
        lines.append([label, *(to_text([100 * scores[kind] for scores in runs]) for kind in kinds)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_text(values: Sequence[float]) -> str:
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


if __name__ == "__main__":
    typer.run(summary_baselines)
