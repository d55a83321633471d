"""How far a student says what its teacher says. Needs no gold labels."""

from __future__ import annotations

from dataclasses import dataclass

from spacy_distil.evaluation.readings import Statement, find_common
from spacy_distil.evaluation.scores import Fraction
from spacy_distil.evaluation.sources import AnnotatedCorpus


@dataclass(frozen=True)
class Agreement:
    """Of one run of a student, in one component.

    statements: F of the student's statements against the teacher's. Where each makes one on every token, that is the share of
        tokens on which they say the same; of spans it is spaCy's F with the teacher for gold.
    texts: the share of texts on which they say the same throughout.
    """

    unit: str
    statements: Fraction
    texts: Fraction


def compare_statements(teacher: set[Statement], student: set[Statement]) -> tuple[int, int, int]:
    """How many both make, how many the student alone, and how many the teacher alone."""
    same = len(teacher & student)
    return same, len(student) - same, len(teacher) - same


def measure_agreement(teacher: AnnotatedCorpus, student: AnnotatedCorpus) -> dict[str, Agreement]:
    """The agreement in each component that both have."""
    found: dict[str, Agreement] = {}
    for name, reading in find_common(teacher.nlp, student.nlp).items():
        pairs = zip(teacher.said[name], student.said[name], strict=True)
        counts = [compare_statements(*pair) for pair in pairs]
        whole = [(1, 0, 0) if fp + fn == 0 else (0, 1, 0) for _, fp, fn in counts]
        texts = range(len(counts))
        found[name] = Agreement(reading.unit, Fraction("f", texts, counts), Fraction("p", texts, whole))
    return found
