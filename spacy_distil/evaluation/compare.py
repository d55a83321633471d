"""Compare a teacher with its students: what of its scores they keep, and what they cost, measured in turn in one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import spacy
from spacy.language import Language
from spacy.training import Corpus, Example

from spacy_distil.evaluation.measure import count_parameters, count_words, latency, size_on_disk, words_per_second

ROUNDS = 5
TIMED_WORDS = 20_000
LATENCY_CALLS = 30


class CompareError(ValueError):
    """Pipelines or a corpus that can't be compared."""


@dataclass(frozen=True)
class Source:
    """A pipeline to compare. Students of one name are runs of one kind, such as three seeds.

    path: a folder, or the name of an installed package.
    """

    name: str
    path: str


@dataclass(frozen=True)
class Cost:
    """parameters: their number. disk: bytes. latency: seconds of one text."""

    parameters: int
    disk: int
    words_per_second: float
    latency: float


@dataclass(frozen=True)
class Entry:
    """A pipeline in the comparison, or several runs of one kind.

    scores: a value for each run, from 0 to 1. Scores that spaCy does not give are left out.
    cost: that of the first run.
    """

    name: str
    paths: list[str]
    scores: dict[str, list[float]]
    cost: Cost


@dataclass(frozen=True)
class Comparison:
    """scores: the names of those that are compared. words: of all texts in the corpus."""

    corpus: str
    docs: int
    words: int
    scores: list[str]
    teacher: Entry
    students: list[Entry]


def compare(
    teacher: Source, students: Sequence[Source], corpus: Path, *, progress: Callable[[str], None] = print
) -> Comparison:
    """Score all pipelines on a corpus, then time the first of each name in rounds, so that what else the machine does meets
    them alike.

    corpus: a `.spacy` file, or a folder of them.
    Raises CompareError for a pipeline that does not load, a corpus without texts, and pipelines without a common score.
    """
    check_corpus(corpus)
    if any(student.name == teacher.name for student in students):
        raise CompareError(f"A student has the teacher's name, {teacher.name!r}. Name it: NAME=FOLDER.")
    groups = [(teacher.name, [teacher]), *group_by_name(students)]
    timed: dict[str, Language] = {}
    scores: dict[str, list[dict[str, float]]] = {}
    weighted: list[str] = []
    n_docs = 0
    texts: list[str] = []
    for name, runs in groups:
        for run in runs:
            progress(f"Scoring {run.name} ({run.path})")
            nlp = load(run)
            examples = read_corpus(nlp, corpus)
            n_docs, texts = len(examples), [example.text for example in examples]
            scores.setdefault(name, []).append(score(nlp, examples))
            weighted += [key for key in weighted_scores(nlp) if key not in weighted]
            timed.setdefault(name, nlp)
    names = common_scores(weighted, scores[teacher.name], [run for name, _ in groups[1:] for run in scores[name]])
    costs = measure_costs(timed, texts, progress=progress)
    entries = [
        Entry(
            name=name,
            paths=[run.path for run in runs],
            scores={key: values for key in names if (values := collect(scores[name], key))},
            cost=costs[name],
        )
        for name, runs in groups
    ]
    words = count_words(timed[teacher.name], texts)
    return Comparison(str(corpus), n_docs, words, names, entries[0], entries[1:])


def group_by_name(sources: Sequence[Source]) -> list[tuple[str, list[Source]]]:
    groups: dict[str, list[Source]] = {}
    for source in sources:
        groups.setdefault(source.name, []).append(source)
    return list(groups.items())


# Reading


def load(source: Source) -> Language:
    """Raises CompareError where spaCy does not load it."""
    if not Path(source.path).exists() and not spacy.util.is_package(source.path):
        raise CompareError(
            f"There is no pipeline {source.path!r}: it is neither a folder here nor an installed package."
        )
    try:
        return spacy.load(source.path)
    except Exception as error:  # whatever a component's own loading raises
        hint = " Name the file that registers it by --code." if "E002" in str(error) else ""
        raise CompareError(f"The pipeline {source.path!r} does not load: {error}{hint}") from error


def check_corpus(path: Path) -> None:
    if not path.exists():
        raise CompareError(f"There is no corpus {str(path)!r}. It is a .spacy file, as `spacy convert` writes it.")
    if path.is_file() and path.suffix != ".spacy":
        raise CompareError(f"The corpus {str(path)!r} is no .spacy file. `spacy convert` makes one.")


def read_corpus(nlp: Language, path: Path) -> list[Example]:
    """The corpus in the pipeline's vocabulary. Raises CompareError for one that is damaged or empty."""
    try:
        examples = [example for example in Corpus(path)(nlp) if len(example.reference)]
    except Exception as error:  # zlib's, msgpack's or spaCy's, by the place of the damage
        raise CompareError(f"The corpus {str(path)!r} can't be read: {error}") from error
    if not examples:
        raise CompareError(f"The corpus {str(path)!r} has no texts to compare on.")
    return examples


# Scores


def score(nlp: Language, examples: list[Example]) -> dict[str, float]:
    """The single figures among the pipeline's scores."""
    scores = nlp.evaluate(examples)
    return {name: float(value) for name, value in scores.items() if isinstance(value, int | float)}


def weighted_scores(nlp: Language) -> list[str]:
    """The scores by which training chose the pipeline's best state."""
    weights: dict[str, float | None] = nlp.config["training"]["score_weights"]
    return [name for name, weight in weights.items() if weight]


def common_scores(
    weighted: Sequence[str], teacher: Sequence[dict[str, float]], students: Sequence[dict[str, float]]
) -> list[str]:
    """The weighted scores that the teacher and some student have. Raises CompareError where there are none."""
    names = [name for name in weighted if collect(teacher, name) and collect(students, name)]
    if not names:
        raise CompareError(
            "Teacher and students have no score in common on this corpus. Compare pipelines with a component in common, "
            "on a corpus that is annotated for it; what counts is what `[training.score_weights]` gives a weight in them."
        )
    return names


def collect(runs: Sequence[dict[str, float]], name: str) -> list[float]:
    return [run[name] for run in runs if name in run]


def deviation(values: Sequence[float]) -> float | None:
    """The standard deviation of a sample; None for a single value."""
    return stdev(values) if len(values) > 1 else None


def kept(student: Sequence[float], teacher: Sequence[float]) -> float | None:
    """The student's mean in percent of the teacher's; None where the teacher has nothing to keep."""
    return 100 * mean(student) / mean(teacher) if mean(teacher) > 0 else None


# Cost


def measure_costs(
    pipelines: dict[str, Language], texts: Sequence[str], *, progress: Callable[[str], None] = print
) -> dict[str, Cost]:
    """Each pipeline's size, and the median over rounds of its words per second and of its latency on a middling text."""
    nlp = next(iter(pipelines.values()))
    timed, text = choose_texts(nlp, texts)
    speeds: dict[str, list[float]] = {name: [] for name in pipelines}
    latencies: dict[str, list[float]] = {name: [] for name in pipelines}
    for i in range(ROUNDS):
        progress(f"Timing, round {i + 1} of {ROUNDS}")
        for name, nlp in pipelines.items():
            speeds[name].append(words_per_second(nlp, timed, repeats=1))
            latencies[name].append(latency(nlp, text, calls=LATENCY_CALLS))
    return {
        name: Cost(
            parameters=count_parameters(nlp),
            disk=size_on_disk(nlp.path),
            words_per_second=median(speeds[name]),
            latency=median(latencies[name]),
        )
        for name, nlp in pipelines.items()
    }


def choose_texts(nlp: Language, texts: Sequence[str]) -> tuple[list[str], str]:
    """The first texts, up to TIMED_WORDS words, and one of median length."""
    chosen: list[str] = []
    lengths: list[int] = []
    for text in texts:
        if sum(lengths) >= TIMED_WORDS:
            break
        chosen.append(text)
        lengths.append(len(nlp.make_doc(text)))
    middle = sorted(range(len(chosen)), key=lengths.__getitem__)[len(chosen) // 2]
    return chosen, chosen[middle]


def summarize(entry: Entry, teacher: Entry, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """For each score: `runs`, `mean`, `deviation`, and `kept` in percent of the teacher's."""
    return {
        name: {
            "runs": entry.scores[name],
            "mean": mean(entry.scores[name]),
            "deviation": deviation(entry.scores[name]),
            "kept": kept(entry.scores[name], teacher.scores[name]),
        }
        for name in names
        if name in entry.scores
    }
