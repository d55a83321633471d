"""What a comparison finds: the data of all reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import mean, stdev

from spacy_distil.evaluation.bootstrap import Interval
from spacy_distil.evaluation.costs import Cost
from spacy_distil.evaluation.disagreements import Disagreement
from spacy_distil.evaluation.scores import Path
from spacy_distil.evaluation.training_log import TrainingLog

OVERALL: Path = ("overall",)  # beside spaCy's scores: those that are compared, weighted as in training


@dataclass(frozen=True)
class Score:
    """A figure of a pipeline, or of several runs of one kind.

    runs: a value for each run, from 0 to 1.
    interval: of their mean, 95 %; None where there are too few draws on which it is defined.
    kept: their mean in percent of the teacher's; None where the teacher has nothing to keep, and for the teacher itself.
    kept_interval: of that, teacher and student on the same draws.
    draws: on which it is defined, and the intervals stand.
    """

    runs: list[float]
    interval: Interval | None = None
    kept: float | None = None
    kept_interval: Interval | None = None
    draws: int = 0

    @property
    def mean(self) -> float:
        return mean(self.runs)

    @property
    def deviation(self) -> float | None:
        """The standard deviation of a sample; None for a single run."""
        return stdev(self.runs) if len(self.runs) > 1 else None


@dataclass(frozen=True)
class Agreed:
    """How far a student says what the teacher says, in one component; see `agreement.Agreement`."""

    unit: str
    statements: Score
    texts: Score


@dataclass(frozen=True)
class Entry:
    """A pipeline in the comparison, or several runs of one kind.

    figures: all scores for which the corpus has annotation, and OVERALL, by where they stand in spaCy's scores.
    cost: that of the first run.
    agreement, disagreements: with the teacher, by component. The disagreements are the first run's.
    logs: of the runs that have one.
    """

    name: str
    paths: list[str]
    figures: dict[Path, Score]
    cost: Cost
    agreement: dict[str, Agreed] = field(default_factory=dict)
    disagreements: dict[str, list[Disagreement]] = field(default_factory=dict)
    logs: list[TrainingLog] = field(default_factory=list)

    @property
    def scores(self) -> dict[str, Score]:
        """spaCy's single scores, such as `ents_f`."""
        return {path[0]: score for path, score in self.figures.items() if len(path) == 1 and path != OVERALL}

    @property
    def overall(self) -> Score | None:
        """The scores that are compared, weighted as in training; None where one of them is missing."""
        return self.figures.get(OVERALL)

    def agreed(self, component: str) -> Score | None:
        """The share of statements on which the student agrees with the teacher."""
        return self.agreement[component].statements if component in self.agreement else None


@dataclass(frozen=True)
class Comparison:
    """A teacher and its students on a corpus.

    words: of all texts in the corpus.
    weights: the scores that are compared, by which training chose the best state, and their weights. Empty where the corpus
        has no annotation.
    support: how often the corpus has what a score is about, by where it stands in spaCy's scores.
    resamples: draws of the texts, for the intervals.
    """

    corpus: str
    docs: int
    words: int
    weights: dict[str, float]
    support: dict[Path, int]
    resamples: int
    teacher: Entry
    students: list[Entry]

    @property
    def entries(self) -> list[Entry]:
        return [self.teacher, *self.students]

    @property
    def components(self) -> dict[str, str]:
        """Those in which some student can agree with the teacher, and the units in which that is counted."""
        return {name: agreed.unit for student in self.students for name, agreed in student.agreement.items()}

    @property
    def labels(self) -> dict[str, list[Path]]:
        """The scores by label that the teacher and some student have, by spaCy's name of them, such as `ents_per_type`; the
        most frequent label first."""
        found: dict[str, list[Path]] = {}
        for path in self.teacher.figures:
            if is_label(path) and any(path in student.figures for student in self.students):
                found.setdefault(path[0], []).append(path)
        return {name: sorted(paths, key=lambda path: -self.support[path]) for name, paths in found.items()}


def is_label(path: Path) -> bool:
    """Whether it is a label's F, or its area under the ROC curve; precision and recall are left out."""
    return (len(path) == 3 and path[-1] == "f") or len(path) == 2
