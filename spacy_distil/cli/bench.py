"""`python -m spacy distil bench`: how fast the component is, beside spacy-transformers and the bare models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from wasabi import msg

from spacy_distil.cli import distil
from spacy_distil.cli.outputs import writing

if TYPE_CHECKING:
    from spacy_distil.evaluation.bench import Row, Sizes, Stream, Texts

DEFAULT_TEXTS = Path("assets/reviews.jsonl")
LONGEST_PARAGRAPH = 100_000  # characters
TITLES = {
    "sentences": "Sentences, words per second",
    "paragraphs": "Paragraphs, words per second",
    "latency": "One text of 14 words",
    "fine_tuning": "Fine-tuning, words per second",
    "long_doc": "One long Doc, words per second",
    "long_doc_against_paragraphs": "One long Doc, speed as a part of that of paragraphs",
    "long_doc_peak_memory": "One long Doc, peak memory above the loaded model",
    "loaded_memory": "Memory of the process with the loaded model",
    "sentences_overhead": "Sentences, the component's own time on top of the bare packed encoder's",
    "paragraphs_overhead": "Paragraphs, the component's own time on top of the bare packed encoder's",
}
REFERENCES = ("transformer", "torch", "packed")


@distil.command("bench")
def bench(
    texts: Annotated[
        Path | None,
        typer.Argument(
            help="Texts: .jsonl with a field 'text', or plain text with a paragraph a line. "
            "By default ./assets/reviews.jsonl, the shipped corpus"
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            "-n",
            help="Checkpoint: hub id, folder, or package:module/folder. "
            "By default random weights in the shape of distilbert-base",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File for the results, as JSON")] = None,
    rounds: Annotated[
        int | None,
        typer.Option("--rounds", "-r", min=1, help="Passes of each contender. By default 3, or 2 with --quick"),
    ] = None,
    memory_docs: Annotated[
        int | None,
        typer.Option(
            "--memory-docs",
            min=10,
            help="Docs of the stream whose memory is followed. By default 20,000, or 400 with --quick",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", "-q", help="A first look: few texts, a minute or two")] = False,
    gpu_id: Annotated[int, typer.Option("--gpu-id", "-g", help="GPU ID or -1 for CPU")] = -1,
) -> None:
    """Compare the speed and memory of `distilbert` with those of spacy-transformers' `transformer` and of the bare
    models, with the same weights on the same texts, in turn.

    Takes about ten minutes on two cores. Close other programs first: the table is as noisy as the machine is busy.
    """
    import tempfile
    import time
    from dataclasses import replace

    import srsly
    from spacy.cli._util import setup_gpu

    from spacy_distil.drafts import new_file
    from spacy_distil.errors import CheckpointError, EncoderError
    from spacy_distil.evaluation.bench import (
        QUICK,
        Sizes,
        add_ratios,
        choose_texts,
        measure_memory,
        measure_speed,
    )
    from spacy_distil.evaluation.contenders import copy_checkpoint, write_random_checkpoint

    sizes = QUICK if quick else Sizes()
    sizes = replace(sizes, rounds=rounds or sizes.rounds, stream=memory_docs or sizes.stream)
    source, corpus = _read_texts(texts)
    chosen = choose_texts(corpus, sizes)
    if output is not None:
        _check_output(output)
    try:
        setup_gpu(gpu_id)
    except ValueError as error:
        msg.fail(f"GPU {gpu_id} can't be used", str(error), exits=1)
    with_transformer = _has_spacy_transformers()

    start = time.perf_counter()

    def progress(text: str) -> None:
        msg.text(f"{time.perf_counter() - start:5.0f} s  {text}")

    # Windows can't remove files that are still mapped into memory; the system's own clean-up gets them.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
        checkpoint = Path(work) / "checkpoint"
        try:
            if name is None:
                write_random_checkpoint(checkpoint)
            else:
                copy_checkpoint(name, checkpoint)
            rows = measure_speed(
                checkpoint, chosen, sizes, folder=Path(work), with_transformer=with_transformer, progress=progress
            )
        except (CheckpointError, EncoderError) as error:
            msg.fail("The checkpoint can't be used", str(error), exits=1)
        more, stream = measure_memory(chosen, sizes, folder=Path(work), gpu_id=gpu_id, progress=progress)
        shape = _shape(checkpoint)
    rows += more
    add_ratios(rows)
    _print_rows(rows)
    _print_stream(stream)
    if quick:
        msg.warn("These are --quick numbers, from a few texts. Leave it out for numbers to rely on.")
    if output is not None:
        settings = {"name": name or "random weights", "shape": shape, "texts": source, "quick": quick}
        with writing(output), new_file(output) as draft:
            srsly.write_json(draft, _report(settings, chosen, sizes, rows, stream))
        msg.good(f"Wrote {output}")


# Input


def _read_texts(path: Path | None) -> tuple[str, list[str]]:
    """The name of the file and its texts."""
    if path is None:
        path = DEFAULT_TEXTS
        if not path.is_file():
            msg.fail(
                f"There is no {path} here to measure with",
                "Give a file: .jsonl with a field 'text', or plain text with one paragraph a line.",
                exits=1,
            )
    if not path.is_file():
        msg.fail(f"There is no file {path}", "Check the spelling, or leave it out for the shipped corpus.", exits=1)
    try:
        lines = path.read_text(encoding="utf8").splitlines()
    except UnicodeDecodeError as error:
        msg.fail(f"{path} is not in UTF-8", f"{error}. Save it as UTF-8 text.", exits=1)
    texts = [_read_line(path, n, line) for n, line in enumerate(lines, start=1) if line.strip()]
    texts = [text for text in texts if text.strip()]
    if not texts:
        msg.fail(f"{path} has no text in it", "Give a file with one paragraph a line.", exits=1)
    longest = max(map(len, texts))
    if longest > LONGEST_PARAGRAPH:
        msg.fail(f"{path} has a paragraph of {longest:,} characters", "Put one paragraph on a line.", exits=1)
    return path.name, texts


def _read_line(path: Path, number: int, line: str) -> str:
    import srsly

    if path.suffix != ".jsonl":
        return line
    try:
        text = srsly.json_loads(line)["text"]
    except (ValueError, KeyError, TypeError):
        text = None
    if not isinstance(text, str):
        msg.fail(f"{path}, line {number} is no JSON object with a field 'text'", line[:80], exits=1)
    return text


def _check_output(output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg.fail(f"The folder of {output} can't be made", str(error), exits=1)
    if not os.access(output.parent, os.W_OK):
        msg.fail(f"The folder of {output} can't be written to", "Name another file.", exits=1)
    if output.is_dir():
        msg.fail(f"{output} is a folder", "Name a file, such as bench.json.", exits=1)


def _has_spacy_transformers() -> bool:
    try:
        import spacy_transformers  # noqa: F401
    except ImportError as error:
        msg.warn("The rows of spacy-transformers are left out", f"It can't be imported: {error}.")
        return False
    return True


# Output


def _print_rows(rows: list[Row]) -> None:
    for measure, title in TITLES.items():
        chosen = [row for row in rows if row.measure == measure]
        if not chosen:
            continue
        references = [name for name in REFERENCES if any(name in row.ratios for row in chosen)]
        table = [
            (
                row.contender.system,
                _precision(row.contender.precision),
                "textcat" if row.contender.head else "none",
                _value(row.value, row.unit),
                *(f"{row.ratios[name]:.2f}" if name in row.ratios else "" for name in references),
            )
            for row in chosen
        ]
        print(f"\n{title}")
        header = ("System", "Precision", "Head", "Value", *(f"/ {name}" for name in references))
        msg.table(table, header=header, divider=True, aligns=("l", "l", "l", *"r" * (1 + len(references))))


def _print_stream(stream: Stream | None) -> None:
    if stream is None:
        return
    print("\nResident memory while Docs pass through and are dropped")
    table = [
        (f"{docs:,}", _value(memory, "bytes"), _value(memory - stream.memory[0], "bytes"))
        for docs, memory in zip(stream.docs, stream.memory, strict=True)
    ]
    msg.table(table, header=("Docs", "Memory", "Growth"), divider=True, aligns=("r", "r", "r"))


def _value(value: float, unit: str) -> str:
    if unit == "seconds":
        return f"{1000 * value:.1f} ms"
    if unit == "bytes":
        return f"{value / 1e6:,.0f} MB"
    if unit == "fraction":
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}"


def _precision(name: str) -> str:
    """`float32`, or what `auto` is here."""
    from thinc.util import get_torch_default_device

    from spacy_distil.encoder.precision import resolve_precision

    if name != "auto":
        return name
    return f"auto ({str(resolve_precision('auto', get_torch_default_device())).removeprefix('torch.')})"


def _report(
    settings: dict[str, Any], texts: Texts, sizes: Sizes, rows: list[Row], stream: Stream | None
) -> dict[str, Any]:
    from dataclasses import asdict

    from spacy_distil.evaluation.bench import BATCH_SIZE, UPDATE_SIZE, count_all_words
    from spacy_distil.evaluation.machine import describe_machine

    return {
        "machine": describe_machine(),
        "settings": {**settings, "batch_size": BATCH_SIZE, "update_size": UPDATE_SIZE, **asdict(sizes)},
        "words": count_all_words(texts),
        "rows": [
            {
                "measure": row.measure,
                "unit": row.unit,
                **asdict(row.contender),
                "value": row.value,
                "rounds": row.rounds,
                "ratios": row.ratios,
            }
            for row in rows
        ],
        "stream": None if stream is None else asdict(stream),
    }


def _shape(checkpoint: Path) -> dict[str, int]:
    import srsly

    config = srsly.read_json(checkpoint / "config.json")
    keys = ("model_type", "n_layers", "num_hidden_layers", "dim", "hidden_size")
    return {key: config[key] for key in keys if key in config}
