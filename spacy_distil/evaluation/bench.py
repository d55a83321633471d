"""The benchmark: this package's component, spacy-transformers and the bare models, on the same texts.

Contenders are measured in turn, round after round, so that a machine that grows faster or slower does so for all of
them; values are medians over the rounds, and ratios are ratios of medians. Memory is measured in fresh processes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import spacy
from spacy.language import Language
from thinc.api import Adam

from spacy_distil.encoder.model import get_shim
from spacy_distil.encoder.pieces import Batch
from spacy_distil.evaluation import measure
from spacy_distil.evaluation.contenders import (
    HEAD,
    BareModel,
    BarePacked,
    BareTorch,
    Contender,
    make_batches,
    make_examples,
    make_pipeline,
    precisions,
)

BATCH_SIZE = 256  # Docs of `nlp.pipe`, spaCy's default
UPDATE_SIZE = 16  # Docs of an update
DROPOUT = 0.1
LATENCY_WORDS = 14
SENTENCE_END = re.compile(r"(?<=[.!?…])\s+")

Progress = Callable[[str], None]
Timer = Callable[[], float]  # a call returns seconds


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    rounds: passes of each contender.
    paragraphs, sentences: texts of a pass.
    calls: of `nlp(text)` in a round.
    updates: of 16 Docs in a round.
    long_doc: words of the long Doc.
    stream: Docs whose memory is followed.
    """

    rounds: int = 3
    paragraphs: int = 150
    sentences: int = 400
    calls: int = 20
    updates: int = 1
    long_doc: int = 40_000
    stream: int = 20_000


QUICK = Sizes(rounds=2, paragraphs=8, sentences=24, calls=5, updates=1, long_doc=1_500, stream=400)


@dataclass(frozen=True)
class Texts:
    """The texts of a benchmark.

    paragraphs, sentences: for words per second.
    short: 14 tokens, for the latency.
    long: the text of the long Doc.
    """

    paragraphs: list[str]
    sentences: list[str]
    short: str
    long: str


@dataclass
class Row:
    """A measurement.

    unit: `words per second`, `seconds`, `bytes`, or `fraction`.
    value: the median of `rounds`.
    ratios: the value divided by that of `transformer` (with the same head), `torch` and `packed` (of the same
        precision), where those were measured.
    """

    measure: str
    unit: str
    contender: Contender
    rounds: list[float]
    ratios: dict[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float:
        return median(self.rounds)


@dataclass(frozen=True)
class Stream:
    """Resident bytes of a process while Docs pass through `nlp.pipe` and are dropped: after how many Docs, how much."""

    docs: list[int]
    memory: list[int]


# Texts


def choose_texts(texts: Sequence[str], sizes: Sizes) -> Texts:
    """Cut the benchmark's texts from a corpus, evenly from all of it; a small corpus is repeated."""
    nlp = spacy.blank("en")
    nlp.max_length = LATENCY_WORDS * (max(map(len, texts)) + 1)
    paragraphs = _spread([" ".join(text.split()) for text in texts], sizes.paragraphs)
    sentences = [sentence for text in texts for sentence in SENTENCE_END.split(text.strip())]
    start = nlp.make_doc(" ".join(islice(cycle(paragraphs), LATENCY_WORDS)))
    long, n_words = [], 0
    for text in cycle(paragraphs):
        if n_words >= sizes.long_doc:
            break
        long.append(text)
        n_words += measure.count_words(nlp, [text])
    return Texts(paragraphs, _spread(sentences, sizes.sentences), start[:LATENCY_WORDS].text, " ".join(long))


def count_all_words(texts: Texts) -> dict[str, int]:
    """The words of the paragraphs, sentences, short and long text."""
    nlp = spacy.blank("en")
    nlp.max_length = max(nlp.max_length, len(texts.long) + 1)
    return {
        "paragraphs": measure.count_words(nlp, texts.paragraphs),
        "sentences": measure.count_words(nlp, texts.sentences),
        "short": measure.count_words(nlp, [texts.short]),
        "long": measure.count_words(nlp, [texts.long]),
    }


def _spread(texts: Sequence[str], n: int) -> list[str]:
    """n of the texts, at even distances; all of them, again and again, where there are fewer."""
    if len(texts) < n:
        return list(islice(cycle(texts), n))
    return [texts[i * len(texts) // n] for i in range(n)]


# In this process: speed


def measure_speed(
    checkpoint: Path, texts: Texts, sizes: Sizes, *, folder: Path, with_transformer: bool, progress: Progress
) -> list[Row]:
    """Words per second and latency of all contenders. Writes their pipelines into `folder` for `measure_memory`."""
    progress("loading the checkpoint into every contender")
    listeners = [Contender("distilbert", precision, head=True) for precision in precisions()]
    if with_transformer:
        listeners.append(Contender("transformer", head=True))
    pipelines = {contender: make_pipeline(contender, checkpoint, texts.paragraphs[:2]) for contender in listeners}
    for contender, nlp in pipelines.items():
        nlp.to_disk(pipeline_path(folder, contender))
    nlp = pipelines[listeners[0]]
    shim = get_shim(nlp.get_pipe("distilbert").model)  # type: ignore[attr-defined]
    models: dict[Contender, BareModel] = {}
    for precision, dtype in precisions().items():
        models[Contender("packed", precision)] = BarePacked(shim, dtype)
        models[Contender("torch", precision)] = BareTorch(checkpoint, dtype)

    progress("warming up")
    first = make_batches(texts.sentences[:UPDATE_SIZE], nlp.make_doc, shim, batch_size=BATCH_SIZE)
    for pipeline in pipelines.values():
        measure.time_pipe(pipeline, texts.sentences[:UPDATE_SIZE])
    for model in models.values():
        model(first)

    in_turn = partial(_in_turn, rounds=sizes.rounds, progress=progress)
    rows: list[Row] = []
    for name, chosen in (("sentences", texts.sentences), ("paragraphs", texts.paragraphs)):
        batches = make_batches(chosen, nlp.make_doc, shim, batch_size=BATCH_SIZE)
        seconds = in_turn(name, _pass_timers(pipelines, models, chosen, batches))
        rows += _speeds(name, measure.count_words(nlp, chosen), seconds)
    rows += list(_overheads(rows))

    batches = make_batches([texts.short], nlp.make_doc, shim, batch_size=1)
    seconds = in_turn("latency", _latency_timers(pipelines, models, texts.short, batches, sizes.calls))
    rows += [Row("latency", "seconds", contender, rounds) for contender, rounds in seconds.items()]

    models.clear()  # training needs the memory
    progress("warming up the training")
    chosen = list(islice(cycle(texts.paragraphs), UPDATE_SIZE * sizes.updates))
    updates = {contender: _Updates(pipeline, chosen) for contender, pipeline in pipelines.items()}
    for update in updates.values():
        update.warm_up()
    seconds = in_turn("fine-tuning", updates)
    return rows + _speeds("fine_tuning", measure.count_words(nlp, chosen), seconds)


def _in_turn(
    name: str, timers: Mapping[Contender, Timer], *, rounds: int, progress: Progress
) -> dict[Contender, list[float]]:
    """Seconds of each contender in each round: A, B, C, A, B, C, …"""
    seconds: dict[Contender, list[float]] = {contender: [] for contender in timers}
    for number in range(1, rounds + 1):
        progress(f"{name}, round {number} of {rounds}")
        for contender, timer in timers.items():
            seconds[contender].append(timer())
    return seconds


def _pass_timers(
    pipelines: Mapping[Contender, Language],
    models: Mapping[Contender, BareModel],
    texts: Sequence[str],
    batches: Sequence[Batch],
) -> dict[Contender, Timer]:
    """A pass over the texts. The component stands next to the bare encoders, from which it differs least."""
    timers: dict[Contender, Timer] = {}
    for contender, nlp in pipelines.items():
        timers[contender] = partial(measure.time_pipe, nlp, texts, batch_size=BATCH_SIZE)
        timers[replace(contender, head=False)] = partial(_time_alone, nlp, texts)
        for bare, model in models.items():
            if contender.system == "distilbert" and bare.precision == contender.precision:
                timers[bare] = partial(measure.time_call, partial(model, batches))
    return timers


def _time_alone(nlp: Language, texts: Sequence[str]) -> float:
    with nlp.select_pipes(disable=HEAD):
        return measure.time_pipe(nlp, texts, batch_size=BATCH_SIZE)


def _latency_timers(
    pipelines: Mapping[Contender, Language],
    models: Mapping[Contender, BareModel],
    text: str,
    batches: Sequence[Batch],
    calls: int,
) -> dict[Contender, Timer]:
    timers: dict[Contender, Timer] = {}
    for contender, nlp in pipelines.items():
        timers[contender] = partial(measure.latency, nlp, text, calls=calls)
    for contender, model in models.items():
        timers[contender] = partial(_median_time, partial(model, batches), calls)
    return timers


def _median_time(function: Callable[[], None], calls: int) -> float:
    for _ in range(3):
        function()
    return median(measure.time_call(function) for _ in range(calls))


def _speeds(name: str, n_words: int, seconds: Mapping[Contender, list[float]]) -> list[Row]:
    return [
        Row(name, "words per second", contender, [n_words / s for s in rounds]) for contender, rounds in seconds.items()
    ]


def _overheads(rows: Sequence[Row]) -> Iterator[Row]:
    """What the component takes on top of the bare packed encoder's time on the same batches, as a fraction of that."""
    speeds = {(row.measure, row.contender): row.rounds for row in rows}
    for (name, contender), rounds in speeds.items():
        if contender.system == "distilbert" and not contender.head:
            bare = speeds[name, Contender("packed", contender.precision)]
            overheads = [b / own - 1.0 for b, own in zip(bare, rounds, strict=True)]
            yield Row(f"{name}_overhead", "fraction", contender, overheads)


class _Updates:
    """`nlp.update` on batches of 16 Docs with spaCy's Adam. A call returns its seconds."""

    def __init__(self, nlp: Language, texts: Sequence[str]) -> None:
        examples = make_examples(nlp, texts)
        self.nlp = nlp
        self.batches = [examples[i : i + UPDATE_SIZE] for i in range(0, len(examples), UPDATE_SIZE)]
        self.optimizer = Adam(5e-5, L2=0.01, L2_is_weight_decay=True, grad_clip=1.0, use_averages=False)

    def warm_up(self) -> None:
        self._update(self.batches[:1])

    def __call__(self) -> float:
        return measure.time_call(partial(self._update, self.batches))

    def _update(self, batches: list) -> None:
        for batch in batches:
            self.nlp.update(batch, sgd=self.optimizer, drop=DROPOUT)


# In fresh processes: memory


def measure_memory(
    texts: Texts, sizes: Sizes, *, folder: Path, gpu_id: int, progress: Progress
) -> tuple[list[Row], Stream | None]:
    """The long Doc with every contender, and the stream of Docs with this package's component.

    folder: where `measure_speed` has written the pipelines.
    gpu_id: -1 for the processor.
    A contender whose process is killed, as for lack of memory, has no rows, and the progress says so.
    """
    rows: list[Row] = []
    contenders = [Contender("distilbert", precision, head=True) for precision in precisions()]
    for contender in (*contenders, Contender("transformer", head=True)):
        path = pipeline_path(folder, contender)
        if not path.exists():
            continue
        progress(f"long Doc, {contender.system}, {contender.precision}")
        try:
            found = measure.in_child(run_long_doc, path, texts.long, texts.paragraphs, gpu_id)
        except BrokenProcessPool:
            progress(f"{contender.system}, {contender.precision}: the process was killed. Too little memory?")
            continue
        for name, unit, value in found:
            rows.append(Row(name, unit, contender, [value]))
    progress(f"{sizes.stream:,} Docs, not kept")
    try:
        path = pipeline_path(folder, contenders[-1])
        return rows, measure.in_child(run_stream, path, texts.sentences, sizes.stream, gpu_id)
    except BrokenProcessPool:
        progress("The process was killed. Too little memory?")
        return rows, None


def pipeline_path(folder: Path, contender: Contender) -> Path:
    return folder / f"{contender.system}-{contender.precision}"


def run_long_doc(path: Path, text: str, paragraphs: list[str], gpu_id: int) -> list[tuple[str, str, float]]:
    """Measures of one pipeline, to be run in a process of its own: (measure, unit, value).

    The loaded model has read one short text, so that what it makes once is made. Memory is the processor's, on a GPU too.
    """
    nlp = _load(path, gpu_id)
    nlp.max_length = max(nlp.max_length, len(text) + 1)
    nlp(paragraphs[0][:100])
    loaded = measure.current_memory()
    seconds, peak = measure.peak_memory(partial(measure.time_call, partial(nlp, text)))
    long = measure.count_words(nlp, [text]) / seconds
    short = measure.count_words(nlp, paragraphs) / measure.time_pipe(nlp, paragraphs, batch_size=BATCH_SIZE)
    return [
        ("long_doc", "words per second", long),
        ("long_doc_against_paragraphs", "fraction", long / short),
        ("long_doc_peak_memory", "bytes", peak),
        ("loaded_memory", "bytes", loaded),
    ]


def run_stream(path: Path, texts: list[str], n_docs: int, gpu_id: int) -> Stream:
    """Follow the memory of a process in which Docs pass through a pipeline, at each tenth of them.

    The texts come in random order, again and again: no two batches are alike, so that what is kept for each shape of a
    batch shows.
    """
    nlp = _load(path, gpu_id)
    every = max(1, n_docs // 10)
    docs, memory = [], []
    stream = random.Random(0).choices(texts, k=n_docs)
    for number, _ in enumerate(nlp.pipe(stream, batch_size=BATCH_SIZE), start=1):
        if number % every == 0:
            docs.append(number)
            memory.append(measure.current_memory())
    return Stream(docs, memory)


def _load(path: Path, gpu_id: int) -> Language:
    if gpu_id >= 0:
        spacy.require_gpu(gpu_id)
    return spacy.load(path)


# Ratios


def add_ratios(rows: Sequence[Row]) -> None:
    """Set each row's ratios to the contenders that it is to be compared with."""
    values = {(row.measure, row.contender): row.value for row in rows}
    for row in rows:
        if row.unit == "fraction":
            continue
        own = row.contender
        references = {
            "transformer": Contender("transformer", head=own.head),
            "torch": Contender("torch", own.precision),
            "packed": Contender("packed", own.precision),
        }
        for name, reference in references.items():
            if reference != own and (row.measure, reference) in values:
                row.ratios[name] = row.value / values[row.measure, reference]
