"""Questions per second of pipelines with a `distilbert_qa`, on a corpus, and the time of a single question: medians of runs in
turn."""

import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import spacy
import typer
from spacy.training import Corpus
from wasabi import msg

REPEATS = 5
SINGLE = 50  # questions that are asked one by one


def time_answers(
    corpus: Annotated[Path, typer.Argument(help="A .spacy file with questions", exists=True)],
    pipelines: Annotated[list[str], typer.Argument(help="Each as NAME=PATH")],
    limit: Annotated[int, typer.Option(help="Docs of the corpus")] = 100,
) -> None:
    names = [pipeline.partition("=")[0] for pipeline in pipelines]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    single: dict[str, list[float]] = {name: [] for name in names}
    loaded = {name: spacy.load(pipeline.partition("=")[2]) for name, pipeline in zip(names, pipelines, strict=True)}
    n_questions = 0
    for run in range(REPEATS + 1):  # the first warms up
        for name, nlp in loaded.items():
            pipe: Any = nlp.get_pipe("distilbert_qa")
            references = [example.reference for example in Corpus(corpus, limit=limit)(nlp)]
            questions = [[question["question"] for question in doc._.questions] for doc in references]
            n_questions = sum(map(len, questions))
            start = time.perf_counter()
            pipe.answer(references, questions)
            batch = time.perf_counter() - start
            pairs = [(doc, question) for doc, asked in zip(references, questions, strict=True) for question in asked]
            start = time.perf_counter()
            for doc, question in pairs[:SINGLE]:
                doc._.ask(question)
            if run:
                seconds[name].append(batch)
                single[name].append((time.perf_counter() - start) / len(pairs[:SINGLE]))
    rows = [
        (name, f"{n_questions / median(seconds[name]):.1f}", f"{1000 * median(single[name]):.1f} ms") for name in names
    ]
    msg.table(rows, header=("pipeline", "questions per second", "one question"), divider=True)


if __name__ == "__main__":
    typer.run(time_answers)
