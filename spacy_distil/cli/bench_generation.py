"""`python -m spacy distil bench-generation`: the speed of beam search beside transformers' `generate`."""

from pathlib import Path
from typing import Annotated

from spacy.cli._util import Opt
from wasabi import msg

from spacy_distil.cli import distil


@distil.command("bench-generation")
def bench_generation_cli(
    beams: Annotated[int, Opt("--beams", "-b", min=1, help="Beams, or 1 for a greedy search")] = 4,
    texts: Annotated[int, Opt("--texts", "-n", min=1, help="Texts to write")] = 256,
    batch_size: Annotated[int, Opt("--batch-size", min=1, help="Texts at once")] = 64,
    source_length: Annotated[int, Opt("--source-length", min=2, help="Mean length of the sources, in pieces")] = 12,
    length: Annotated[int, Opt("--length", "-l", min=1, help="Pieces to write for each")] = 16,
    layers: Annotated[int, Opt("--layers", min=1, help="Layers of the encoder")] = 6,
    decoder_layers: Annotated[int, Opt("--decoder-layers", min=1, help="Layers of the decoder")] = 3,
    rounds: Annotated[int, Opt("--rounds", "-r", min=1, help="Rounds, of which the median counts")] = 5,
    output: Annotated[Path | None, Opt("--output", "-o", help="File for the results, as JSON")] = None,
) -> None:
    """
    Time beam search on a processor: an encoder and a decoder in the shape of all-MiniLM-L6-v2, with random weights, against
    transformers' EncoderDecoderModel of the same shape, in turn. All texts get the same length by force.

    python -m spacy distil bench-generation --beams 4
    """
    from dataclasses import asdict

    import srsly

    from spacy_distil.evaluation.generation import Task, measure
    from spacy_distil.evaluation.machine import describe_machine

    task = Task(
        layers=layers,
        decoder_layers=decoder_layers,
        texts=texts,
        batch_size=batch_size,
        source_length=source_length,
        length=length,
        beams=beams,
    )
    speeds = measure(task, rounds=rounds, progress=msg.text)
    first = next(iter(speeds.values()))
    rows = [(name, f"{speed:,.0f}", f"{speed / first:.2f}") for name, speed in speeds.items()]
    msg.table(rows, header=("", "pieces per second", "x"), divider=True, aligns=("l", "r", "r"))
    if output is not None:
        srsly.write_json(output, {"machine": describe_machine(), "task": asdict(task), "pieces_per_second": speeds})
        msg.good(f"Wrote {output}")
