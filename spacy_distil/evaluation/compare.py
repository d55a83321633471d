"""Compare a teacher with its students: what of its scores they keep, how far they agree with it, and what they cost, all in
one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from spacy.language import Language

from spacy_distil.evaluation.agreement import measure_agreement
from spacy_distil.evaluation.bootstrap import Values, Weights, combine, draw_texts, interval, resample, share
from spacy_distil.evaluation.comparison import OVERALL, Agreed, Comparison, Entry, Score
from spacy_distil.evaluation.costs import Setting, measure_costs
from spacy_distil.evaluation.disagreements import Disagreement, find_disagreements
from spacy_distil.evaluation.measure import count_words
from spacy_distil.evaluation.scores import Path as ScorePath
from spacy_distil.evaluation.scores import collect_scores, resample_scores
from spacy_distil.evaluation.sources import AnnotatedCorpus, CompareError, Source, check_there, group_by_name, load
from spacy_distil.evaluation.training_log import read_log

Key = TypeVar("Key")
PROCESSOR = Setting()


@dataclass
class Run:
    """The figures of one pipeline, on the corpus and on each draw of it.

    support: how often the corpus has what a score is about.
    weights: of the scores by which training chose the pipeline's best state.
    units, statements, texts: of its agreement with the teacher, by component; see `agreement.Agreement`.
    """

    scores: dict[ScorePath, Values]
    support: dict[ScorePath, int]
    weights: dict[str, float]
    units: dict[str, str] = field(default_factory=dict)
    statements: dict[str, Values] = field(default_factory=dict)
    texts: dict[str, Values] = field(default_factory=dict)


def compare(
    teacher: Source,
    students: Sequence[Source],
    corpus: Path,
    *,
    setting: Setting = PROCESSOR,
    progress: Callable[[str], None] = print,
) -> Comparison:
    """Score all pipelines on a corpus, then time the first of each name in rounds.

    corpus: texts, with or without annotation; see `sources.AnnotatedCorpus`.
    setting: how the processes in which memory is measured load a pipeline.
    Raises CompareError for a pipeline that does not load, a damaged training log, and where there is nothing to compare;
        CorpusError for a corpus that can't be read.
    """
    if any(student.name == teacher.name for student in students):
        raise CompareError(f"A student has the teacher's name, {teacher.name!r}. Name it: NAME=FOLDER.")
    for source in (teacher, *students):
        check_there(source)
    kinds = group_by_name(students)
    logs = {
        name: [log for source in kind if (log := read_log(source.path))]
        for name, kind in {teacher.name: [teacher], **kinds}.items()
    }

    def annotate(source: Source) -> AnnotatedCorpus:
        progress(f"Scoring {source.name} ({source.path})")
        return AnnotatedCorpus(load(source), corpus)

    taught = annotate(teacher)
    draws = draw_texts(len(taught.examples))
    timed = {teacher.name: taught.nlp}
    own = measure_run(taught, draws)
    runs: dict[str, list[Run]] = {name: [] for name in kinds}
    disagreements: dict[str, dict[str, list[Disagreement]]] = {}
    for name, kind in kinds.items():
        for source in kind:
            learnt = annotate(source)
            runs[name].append(measure_run(learnt, draws, taught))
            if name not in timed:
                timed[name] = learnt.nlp
                disagreements[name] = find_disagreements(taught, learnt)

    everyone = [own, *(run for group in runs.values() for run in group)]
    weights = choose_scores(own, everyone[1:])
    for run in everyone:
        add_overall(run, weights)
    costs = measure_costs(timed, taught.texts, setting, progress)
    return Comparison(
        corpus=str(corpus),
        docs=len(taught.examples),
        words=count_words(taught.nlp, taught.texts),
        weights=weights,
        support={path: n for run in everyone for path, n in run.support.items()},
        resamples=len(draws) - 1,
        teacher=Entry(
            name=teacher.name,
            paths=[teacher.path],
            figures=summarize([own.scores]),
            cost=costs[teacher.name],
            logs=logs[teacher.name],
        ),
        students=[
            Entry(
                name=name,
                paths=[source.path for source in kind],
                figures=summarize([run.scores for run in runs[name]], own.scores),
                cost=costs[name],
                agreement=summarize_agreement(runs[name]),
                disagreements=disagreements[name],
                logs=logs[name],
            )
            for name, kind in kinds.items()
        ],
    )


def measure_run(annotated: AnnotatedCorpus, draws: Weights, teacher: AnnotatedCorpus | None = None) -> Run:
    """The scores of a pipeline, and its agreement with the teacher, on each draw of the texts."""
    figures = collect_scores(annotated.nlp, annotated.examples)
    scores = resample_scores(figures, draws)
    annotated.drop_vectors()
    agreement = measure_agreement(teacher, annotated) if teacher else {}
    return Run(
        scores=scores,
        support={path: figure.support for path, figure in figures.items()},
        weights=weighted_scores(annotated.nlp),
        units={name: found.unit for name, found in agreement.items()},
        statements={name: resample(found.statements, draws) for name, found in agreement.items()},
        texts={name: resample(found.texts, draws) for name, found in agreement.items()},
    )


def weighted_scores(nlp: Language) -> dict[str, float]:
    """The scores by which training chose the pipeline's best state."""
    weights: Mapping[str, float | None] = nlp.config["training"]["score_weights"]
    return {name: weight for name, weight in weights.items() if weight}


def choose_scores(teacher: Run, students: Sequence[Run]) -> dict[str, float]:
    """The scores with a weight that the teacher and some student have, and their weights: those of the first pipeline that
    gives one. Raises CompareError where there are none, and no component either in which they could agree."""
    weights: dict[str, float] = {}
    for run in (teacher, *students):
        for name, weight in run.weights.items():
            if (name,) in teacher.scores and any((name,) in student.scores for student in students):
                weights.setdefault(name, weight)
    if not weights and not any(student.units for student in students):
        raise CompareError(
            "Teacher and students have no score in common on this corpus, and no component in which they could agree. Compare "
            "pipelines with a component of the same name; a score counts if `[training.score_weights]` gives it a weight."
        )
    return weights


def add_overall(run: Run, weights: Mapping[str, float]) -> None:
    """Add the weighted mean of the scores that are compared, unless the run lacks one of them."""
    compared = [run.scores[name,] for name in weights if (name,) in run.scores]
    if compared and len(compared) == len(weights):
        run.scores[OVERALL] = np.average(compared, axis=0, weights=list(weights.values()))


def summarize(runs: Sequence[Mapping[Key, Values]], teacher: Mapping[Key, Values] | None = None) -> dict[Key, Score]:
    """The mean of each figure over the runs of one kind, what that keeps of the teacher's, and the intervals of both. A figure
    that is not defined on the corpus is left out."""
    found: dict[Key, Score] = {}
    for key in dict.fromkeys(key for run in runs for key in run):
        of_runs = [run[key] for run in runs if key in run]
        values = combine(of_runs)
        kept = share(values, (teacher or {}).get(key, np.full(1, np.nan)))
        if np.isfinite(values[0]):
            found[key] = Score(
                runs=[float(run[0]) for run in of_runs],
                interval=interval(values),
                kept=float(kept[0]) if np.isfinite(kept[0]) else None,
                kept_interval=interval(kept),
                draws=int(np.isfinite(values[1:]).sum()),
            )
    return found


def summarize_agreement(runs: Sequence[Run]) -> dict[str, Agreed]:
    """By component. One in which neither teacher nor student says anything is left out."""
    statements = summarize([run.statements for run in runs])
    texts = summarize([run.texts for run in runs])
    units = {name: unit for run in runs for name, unit in run.units.items()}
    return {name: Agreed(units[name], score, texts[name]) for name, score in statements.items()}
