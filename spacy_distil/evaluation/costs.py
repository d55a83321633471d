"""What the pipelines of a comparison cost, measured in turn in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import spacy
from spacy.cli._util import import_code
from spacy.language import Language

from spacy_distil.evaluation import measure

ROUNDS = 5
TIMED_WORDS = 20_000
LATENCY_CALLS = 30
BATCH_SIZE = 256  # Docs of `nlp.pipe`, spaCy's default


@dataclass(frozen=True)
class Cost:
    """What a pipeline costs.

    parameters: their number.
    disk: bytes.
    speeds: words per second, in each round.
    latency: seconds of one text.
    memory: bytes above the loaded model at most while the timed texts pass; None where the process was killed.
    encoder_speed: words per second of the shared encoders alone; None where a pipeline has none.
    """

    parameters: int
    disk: int
    speeds: list[float]
    latency: float
    memory: int | None
    encoder_speed: float | None = None

    @property
    def words_per_second(self) -> float:
        return median(self.speeds)


@dataclass(frozen=True)
class Setting:
    """What a fresh process needs to load a pipeline as this one did.

    gpu_id: -1 for the processor.
    code: a file that registers functions.
    """

    gpu_id: int = -1
    code: Path | None = None


def measure_costs(
    pipelines: Mapping[str, Language], texts: Sequence[str], setting: Setting, progress: Callable[[str], None]
) -> dict[str, Cost]:
    """Each pipeline's size, its memory in a process of its own, and its speed and latency in rounds, so that what else the
    machine does meets all of them alike."""
    nlp = next(iter(pipelines.values()))
    timed, text = choose_texts(nlp, texts)
    speeds: dict[str, list[float]] = {name: [] for name in pipelines}
    latencies: dict[str, list[float]] = {name: [] for name in pipelines}
    encoder_speeds: dict[str, list[float]] = {name: [] for name in pipelines}
    for i in range(ROUNDS):
        progress(f"Timing, round {i + 1} of {ROUNDS}")
        for name, nlp in pipelines.items():
            speeds[name].append(measure.words_per_second(nlp, timed, batch_size=BATCH_SIZE, repeats=1))
            latencies[name].append(measure.latency(nlp, text, calls=LATENCY_CALLS))
            if encoders := [pipe for pipe, component in nlp.pipeline if hasattr(component, "listening_components")]:
                with nlp.select_pipes(enable=encoders):
                    speed = measure.words_per_second(nlp, timed, batch_size=BATCH_SIZE, repeats=1)
                encoder_speeds[name].append(speed)
    costs: dict[str, Cost] = {}
    for name, nlp in pipelines.items():
        progress(f"Memory of {name}, in a process of its own")
        costs[name] = Cost(
            parameters=measure.count_parameters(nlp),
            disk=measure.size_on_disk(nlp.path),
            speeds=speeds[name],
            latency=median(latencies[name]),
            memory=_measure_memory(nlp.path, timed, text, setting, progress),
            encoder_speed=median(encoder_speeds[name]) if encoder_speeds[name] else None,
        )
    return costs


def choose_texts(nlp: Language, texts: Sequence[str]) -> tuple[list[str], str]:
    """The first texts, up to TIMED_WORDS words, and one of median length."""
    chosen: list[str] = []
    lengths: list[int] = []
    for text in texts:
        if sum(lengths) >= TIMED_WORDS:
            break
        chosen.append(text)
        lengths.append(len(measure.make_doc(nlp, text)))
    middle = sorted(range(len(chosen)), key=lengths.__getitem__)[len(chosen) // 2]
    return chosen, chosen[middle]


def _measure_memory(
    path: Path, texts: list[str], text: str, setting: Setting, progress: Callable[[str], None]
) -> int | None:
    try:
        return measure.in_child(run_memory, path, texts, text, setting)
    except BrokenProcessPool:
        progress("The process was killed. Too little memory?")
        return None


def run_memory(path: Path, texts: list[str], text: str, setting: Setting) -> int:
    """The bytes by which the process grows at most while the texts pass through the pipeline. For a process of its own.

    The loaded model has read one text, so that what it makes once is made. Memory is the processor's, on a GPU too.
    """
    import_code(setting.code)
    if setting.gpu_id >= 0:
        spacy.require_gpu(setting.gpu_id)
    nlp = spacy.load(path)
    nlp(measure.make_doc(nlp, text))
    _, peak = measure.peak_memory(lambda: measure.time_pipe(nlp, texts, batch_size=BATCH_SIZE))
    return peak
