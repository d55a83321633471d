"""What a pipeline costs: its size, its speed and its memory.

Sizes are in bytes, times in seconds. A word is a token that is not white space.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import psutil
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.util import _pipe, minibatch
from thinc.api import Model

T = TypeVar("T")


class AskedText(str):
    """A text with questions about it, which pipelines that answer some are to answer while they are measured."""

    questions: Sequence[str] = ()

    @classmethod
    def of(cls, text: str, questions: Sequence[str]) -> AskedText:
        asked = cls(text)
        asked.questions = questions
        return asked


SAMPLE_EVERY = 0.001  # seconds


# Size


def count_parameters(nlp: Language) -> int:
    """The numbers that the components of a pipeline have learnt: thinc's parameters and those of torch modules.

    Frozen and disabled ones count, since they are stored and loaded too. What several components share counts once.
    Tables of static vectors are not parameters.
    """
    nodes: dict[int, Model] = {}
    for _, component in nlp.components:
        if isinstance(model := getattr(component, "model", None), Model):
            nodes.update({id(node): node for node in model.walk()})
    modules = [shim._model for node in nodes.values() for shim in node.shims]
    torch_parameters = {
        id(parameter): parameter.numel()
        for module in modules
        if isinstance(module, torch.nn.Module)
        for parameter in module.parameters()
    }
    thinc_parameters = sum(
        int(node.get_param(name).size) for node in nodes.values() for name in node.param_names if node.has_param(name)
    )
    return thinc_parameters + sum(torch_parameters.values())


def size_on_disk(path: str | Path) -> int:
    """The bytes of all files in a folder. Raises FileNotFoundError where there is none."""
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path)!r} whose size could be measured.")
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


# Speed


def count_words(nlp: Language, texts: Sequence[str]) -> int:
    """The tokens of the pipeline's tokeniser that are not white space."""
    return sum(not token.is_space for text in texts for token in make_doc(nlp, text))


def words_per_second(nlp: Language, texts: Sequence[str], *, batch_size: int = 256, repeats: int = 3) -> float:
    """Words per second of `nlp.pipe(texts)`, from texts to annotated Docs, tokeniser included: the median of `repeats`.

    batch_size: Docs.
    A pass over the first batch warms up.
    """
    texts = list(texts)
    n_words = count_words(nlp, texts)
    time_pipe(nlp, texts[:batch_size], batch_size=batch_size)
    return n_words / median(time_pipe(nlp, texts, batch_size=batch_size) for _ in range(repeats))


def time_pipe(nlp: Language, texts: Sequence[str], *, batch_size: int = 256) -> float:
    """Seconds that `nlp.pipe(texts)` takes. The Docs are not kept."""
    return time_call(lambda: _exhaust(nlp.pipe((make_doc(nlp, text) for text in texts), batch_size=batch_size)))


def time_components(nlp: Language, texts: Sequence[str], *, batch_size: int = 256) -> dict[str, float]:
    """Seconds that each component takes for all texts, in the pipeline's order. A pass over the first batch warms up.

    batch_size: Docs, which pass through all components before the next batch.
    """
    batches = list(minibatch(texts, batch_size))
    for batch in batches[:1]:
        _time_components(nlp, batch)
    parts = [_time_components(nlp, batch) for batch in batches]
    return {name: sum(part[name] for part in parts) for name in nlp.pipe_names}


def _time_components(nlp: Language, texts: Sequence[str]) -> dict[str, float]:
    docs = [make_doc(nlp, text) for text in texts]
    seconds = {}
    for name, pipe in nlp.pipeline:
        stream = _pipe(docs, pipe, name, nlp.default_error_handler, {"batch_size": len(docs)})
        docs = []
        seconds[name] = time_call(partial(docs.extend, stream))
    return seconds


def latency(nlp: Language, text: str, *, calls: int = 30) -> float:
    """Seconds of `nlp(text)`, the median of `calls`. A tenth as many calls, three at least, warm up."""
    for _ in range(max(3, calls // 10)):
        nlp(make_doc(nlp, text))
    return median(time_call(lambda: nlp(make_doc(nlp, text))) for _ in range(calls))


def make_doc(nlp: Language, text: str) -> Doc:
    doc = nlp.make_doc(str(text))  # spaCy takes no other kind of str
    if isinstance(text, AskedText):
        doc._.questions = list(text.questions)
    return doc


def time_call(function: Callable[[], Any]) -> float:
    """Seconds that a call takes, and what it has started on a GPU."""
    _synchronize()
    start = time.perf_counter()
    function()
    _synchronize()
    return time.perf_counter() - start


def _exhaust(docs: Iterator[Any]) -> None:
    for _ in docs:
        pass


def _synchronize() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


# Memory


def current_memory() -> int:
    """Resident bytes of this process."""
    return psutil.Process().memory_info().rss


def peak_memory(function: Callable[[], T]) -> tuple[T, int]:
    """Call a function. Returns its result, and the bytes by which this process grew at most meanwhile.

    Linux keeps the exact peak; elsewhere memory is sampled every millisecond. What was freed before but not returned to the
    system is used again unseen: call this in a fresh process (`in_child`) to count all.
    """
    before = current_memory()
    if _reset_peak():
        result = function()
        return result, max(0, _read_peak() - before)
    with _sampled_peak() as peak:
        result = function()
    return result, max(0, peak() - before)


def in_child(function: Callable[..., T], *args: Any) -> T:
    """Call a function of a module in a fresh Python process, so that neither memory nor peaks of this one mix in.

    Raises what the function raises, and BrokenProcessPool where the process is killed, as for lack of memory.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def _reset_peak() -> bool:
    """Let Linux forget the highest resident size so far, which loading a model may have set."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _read_peak() > 0
    except (OSError, StopIteration):
        return False


def _read_peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    kibibytes = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(kibibytes) * 1024


@contextlib.contextmanager
def _sampled_peak() -> Iterator[Callable[[], int]]:
    highest, done = current_memory(), threading.Event()

    def sample() -> None:
        nonlocal highest
        while not done.wait(SAMPLE_EVERY):
            highest = max(highest, current_memory())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield lambda: max(highest, current_memory())
    finally:
        done.set()
        thread.join()
