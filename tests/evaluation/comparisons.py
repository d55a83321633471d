"""A comparison made by hand, with every part that a report can have, and texts and names that try to break out of a page."""

from __future__ import annotations

from spacy_distil.evaluation.bootstrap import Interval
from spacy_distil.evaluation.comparison import OVERALL, Agreed, Comparison, Entry, Score
from spacy_distil.evaluation.costs import Cost
from spacy_distil.evaluation.disagreements import Arcs, Disagreement, Side
from spacy_distil.evaluation.readings import Statement, View
from spacy_distil.evaluation.scores import Path
from spacy_distil.evaluation.training_log import TrainingLog

ATTACK = "<script>alert('x')</script>&\"|"
TEXT = f"Anna met {ATTACK} in Rome."
ROME = (TEXT.index("Rome"), TEXT.index("Rome") + 4)


def score(runs: list[float], kept: float | None = None, between: Interval = (50.0, 99.0)) -> Score:
    mean = sum(runs) / len(runs)
    return Score(runs, (mean - 0.05, mean + 0.05), kept, None if kept is None else between, draws=1000)


def disagreement(view: View, teacher: list[Statement], student: list[Statement]) -> Disagreement:
    tokens = [(0, 4), (5, 8), (9, 9 + len(ATTACK)), (ROME[0] - 3, ROME[0] - 1), ROME, (ROME[1], ROME[1] + 1)]
    arcs = Arcs(
        [ATTACK, "VERB", "X", "ADP", "PROPN", "PUNCT"], [1, 1, 1, 4, 1, 1], ["nsubj", "ROOT", "obj", ATTACK, "obl", ""]
    )
    scores = {ATTACK: 0.8, "BAD": 0.2} if view == "categories" else {}
    sides = {
        name: Side(statements, tokens, arcs if view == "parse" else None, scores)
        for name, statements in (("teacher", teacher), ("gold", teacher), ("student", student))
    }
    return Disagreement(3, 2, 0.5, view, TEXT, False, "ltr", sides)


def make_disagreements() -> dict[str, list[Disagreement]]:
    whole = (0, len(TEXT))
    anna = (0, 4, ATTACK)
    return {
        "ner": [disagreement("entities", [anna, (*ROME, "GPE")], [(*ROME, "ORG")])],
        "spancat": [disagreement("spans", [anna], [(*ROME, ATTACK)])],
        "parser": [disagreement("parse", [(0, 4, "nsubj 5")], [(0, 4, "obj 5")])],
        "tagger": [disagreement("tokens", [anna, (5, 8, "VBD")], [(0, 4, "NNP"), (5, 8, "VBD")])],
        "senter": [disagreement("sentences", [(*whole, "sentence")], [(0, 8, "sentence"), (9, whole[1], "sentence")])],
        "textcat": [disagreement("categories", [(*whole, ATTACK)], [(*whole, "BAD")])],
    }


def make_comparison() -> Comparison:
    teacher = Entry(
        "teacher",
        ["t"],
        {
            ("ents_f",): score([0.8]),
            ("tag_acc",): score([0.5]),
            OVERALL: score([0.7]),
            ("ents_per_type", ATTACK, "f"): score([0.9]),
            ("ents_per_type", "GPE", "f"): score([0.6]),
            ("ents_per_type", "GPE", "p"): score([0.7]),
            ("cats_auc_per_type", "GOOD"): score([0.95]),
        },
        Cost(20_000_000, 80_000_000, [990.0, 1000.0, 1100.0], 0.020, 50_000_000, 1500.0),
    )
    student = Entry(
        "student",
        ["a", "b", "c"],
        {
            ("ents_f",): score([0.7, 0.8, 0.6], 87.5),
            ("ents_per_type", ATTACK, "f"): score([0.9, 0.9, 0.9], 100.0),
            ("cats_auc_per_type", "GOOD"): score([0.9, 0.9, 0.9], 94.7),
        },
        Cost(10_000_000, 40_000_000, [2000.0, 2000.0, 2000.0], 0.010, 25_000_000, 3000.0),
        agreement={
            name: Agreed("tokens", score([0.7, 0.8, 0.9]), score([0.2, 0.3, 0.4])) for name in make_disagreements()
        },
        disagreements=make_disagreements(),
        logs=[
            TrainingLog([10, 20], [0.5, 0.6], {"ents_f": [0.4, float("nan")]}, {"ner": [200.0, 20.0]}),
            TrainingLog([10], [0.5], {"ents_f": [0.4]}, {"ner": [float("nan")]}),
        ],
    )
    support: dict[Path, int] = {("ents_per_type", ATTACK, "f"): 7, ("cats_auc_per_type", "GOOD"): 5}
    return Comparison("test.spacy", 10, 500, {"ents_f": 0.6, "tag_acc": 0.4}, support, 1000, teacher, [student])


def without_annotation() -> Comparison:
    """Agreement alone, one run, no log, a process that was killed."""
    cost = Cost(10_000_000, 40_000_000, [2000.0], 0.010, None)
    student = Entry("student", ["a"], {}, cost, {"ner": Agreed("entities", score([0.9]), score([0.5]))})
    return Comparison("texts.txt", 10, 500, {}, {}, 1000, Entry("teacher", ["t"], {}, cost), [student])
