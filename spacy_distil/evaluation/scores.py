"""A pipeline's scores as sums over texts, so that drawing the texts anew costs no other run of a scorer.

spaCy's scorers count true and false positives over all texts and give fractions of the sums. Run on one text at a time, with
figures that remember what they were made of, they give what each text contributes; this holds for every scorer that is built
on `spacy.scorer.Scorer`, a third party's too, and for means that know what they were taken of. What comes out is compared with
the scorer's own result on the whole corpus, and where it is not the same (a scorer that computes in some other way), draws are
scored by the scorer itself, as many as can be afforded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from spacy import scorer
from spacy.language import Language
from spacy.scorer import PRFScore, ROCAUCScore, Scorer
from spacy.training import Example

from spacy_distil.evaluation.bootstrap import FEWEST, Figure, Values, Weights, resample
from spacy_distil.pipeline.mean_score import MeanScore

Path = tuple[str, ...]  # where a figure stands in spaCy's scores: ("ents_f",) or ("ents_per_type", "ORG", "f")
AFFORDED = 200_000  # texts that are scored again, for a pipeline with scores that are no sums


class Fraction:
    """Precision, recall or F of counts that are sums over texts.

    kind: "p", "r" or "f".
    texts: (n,), the texts that have counts.
    counts: (n, 3), their true positives, false positives and false negatives.
    """

    def __init__(self, kind: str, texts: Sequence[int], counts: Sequence[tuple[int, int, int]]) -> None:
        self.kind = kind
        self.texts = np.asarray(texts, dtype="int64")
        self.counts = np.asarray(counts, dtype="float64").reshape(-1, 3)

    @property
    def support(self) -> int:
        """What the corpus has of it: true positives and false negatives."""
        return int(self.counts[:, 0].sum() + self.counts[:, 2].sum())

    def on(self, weights: Weights) -> Values:
        tp, fp, fn = (weights[:, self.texts].astype("float64") @ self.counts).T
        over = {"p": tp + fp, "r": tp + fn, "f": tp + (fp + fn) / 2}[self.kind]
        value = tp / np.maximum(over, 0.5)  # 0 where there is nothing to divide by, as spaCy has it
        return np.where(tp + fp + fn > 0, value, np.nan)


class Ratio:
    """A mean of what each text has some of, such as its questions' scores.

    texts: (n,), the texts that have some. totals, counts: (n,), the sum of the scores, and their number.
    """

    def __init__(self, texts: Sequence[int], totals: Sequence[float], counts: Sequence[int]) -> None:
        self.texts = np.asarray(texts, dtype="int64")
        self.totals, self.counts = np.asarray(totals, dtype="float64"), np.asarray(counts, dtype="float64")

    @property
    def support(self) -> int:
        return int(self.counts.sum())

    def on(self, weights: Weights) -> Values:
        drawn = weights[:, self.texts].astype("float64")
        counts = drawn @ self.counts
        return (drawn @ self.totals) / np.where(counts > 0, counts, np.nan)


class RocAuc:
    """The area under the ROC curve of a label: how often a text that has it scores above one that has not; ties are half.

    texts, scores, golds: (n,).
    """

    def __init__(self, texts: Sequence[int], scores: Sequence[float], golds: Sequence[float]) -> None:
        order = np.argsort(scores, kind="stable")
        self.texts = np.asarray(texts, dtype="int64")[order]
        self.positives = np.flatnonzero(np.asarray(golds, dtype="float64")[order] == 1.0)
        ordered = np.asarray(scores, dtype="float64")[order]
        own = ordered[self.positives]
        # For each positive: how many of all, and of the positives, score less, and how many no more.
        self.below_all = np.searchsorted(ordered, own, side="left"), np.searchsorted(ordered, own, side="right")
        self.below_own = np.searchsorted(own, own, side="left"), np.searchsorted(own, own, side="right")

    @property
    def support(self) -> int:
        return len(self.positives)

    def on(self, weights: Weights) -> Values:
        drawn = weights[:, self.texts]
        positive = drawn[:, self.positives].astype("int64")
        above = _halves(drawn, self.below_all) - _halves(positive, self.below_own)  # negatives below each positive
        n_positive = positive.sum(axis=1)
        pairs = n_positive * (drawn.sum(axis=1, dtype="int64") - n_positive)
        return (positive * above).sum(axis=1) / np.where(pairs > 0, pairs, np.nan)


def _halves(drawn: Weights, below: tuple[Weights, Weights]) -> Values:
    """What is drawn below each place, and half of what is drawn at it.

    drawn: (resamples, n), in order. below: (m,) and (m,), how many of the n stand below a place, and how many no higher.
    RETURNS: (resamples, m).
    """
    sums = np.zeros((len(drawn), drawn.shape[1] + 1), dtype="int32")
    np.cumsum(drawn, axis=1, out=sums[:, 1:])
    return (sums[:, below[0]] + sums[:, below[1]]) / 2


class Mean:
    """The mean over labels, where one that is not defined on a draw counts as 0, as spaCy has it."""

    def __init__(self, figures: Sequence[Fraction | RocAuc]) -> None:
        self.figures = figures

    @property
    def support(self) -> int:
        return sum(figure.support for figure in self.figures)

    def on(self, weights: Weights) -> Values:
        return self.of([figure.on(weights) for figure in self.figures])

    @staticmethod
    def of(labels: Sequence[Values]) -> Values:
        """labels: of each its values, (resamples,)."""
        values = np.stack(labels)
        return np.where(np.isnan(values).all(axis=0), np.nan, np.nan_to_num(values).mean(axis=0))


class Rescored:
    """A score that is no sum over texts: the scorer runs on each draw, until as many texts are scored as can be afforded."""

    def __init__(self, path: Path, rescorer: Rescorer) -> None:
        self.path = path
        self.rescorer = rescorer

    support = 1  # not known: the scorer has a value

    def on(self, weights: Weights) -> Values:
        scores = [self.rescorer(row).get(self.path) for row in weights]
        return np.array([value if isinstance(value, int | float) else np.nan for value in scores], dtype="float64")


class Rescorer:
    """All scores on a draw. Each draw is scored once, for all of them, and those after the last that is afforded not at all."""

    def __init__(self, nlp: Language, examples: Sequence[Example]) -> None:
        self.scorer = Scorer(nlp)
        self.examples = examples
        n_calls = AFFORDED // len(examples)
        self.n_calls = n_calls if n_calls > FEWEST else 1  # the corpus itself
        self.seen: dict[bytes, dict[Path, Any]] = {}

    def __call__(self, row: np.ndarray) -> dict[Path, Any]:
        key = row.tobytes()
        if key not in self.seen and len(self.seen) < self.n_calls:
            drawn = [example for example, n in zip(self.examples, row, strict=True) for _ in range(n)]
            self.seen[key] = dict(flatten(self.scorer.score(drawn)))
        return self.seen.get(key, {})


ScoreFigure = Fraction | Ratio | RocAuc | Mean | Rescored


def collect_scores(nlp: Language, examples: Sequence[Example]) -> dict[Path, ScoreFigure]:
    """All figures among the pipeline's scores for which the corpus has annotation, on examples that it has annotated."""
    pipeline = Scorer(nlp)
    whole = dict(flatten(pipeline.score(examples)))
    with _remembering():
        parts = [dict(flatten(pipeline.score([example]))) for example in examples]
    found: dict[Path, ScoreFigure] = {}
    for path, value in whole.items():
        if value is not None and (sums := _add_up(path, parts)):
            found[path] = sums
    for path in whole:
        if path not in found and (means := _find_means(path, whole, found)):
            found[path] = means
    rescorer = Rescorer(nlp, examples)
    corpus = np.ones((1, len(examples)), dtype="uint8")
    for path, value in whole.items():
        if isinstance(value, int | float) and not (path in found and _equals(found[path], value, corpus)):
            found[path] = Rescored(path, rescorer)
    return {path: found[path] for path in whole if path in found and found[path].support}


def resample_scores(figures: Mapping[Path, ScoreFigure], weights: Weights) -> dict[Path, Values]:
    """Each figure on each draw. Means are taken of what is known of their labels, and not computed anew."""
    known: dict[int, Values] = {}

    def get(figure: ScoreFigure) -> Values:
        if id(figure) not in known:
            if isinstance(figure, Mean):
                known[id(figure)] = Mean.of([get(label) for label in figure.figures])
            else:
                known[id(figure)] = resample(figure, weights)
        return known[id(figure)]

    return {path: get(figure) for path, figure in figures.items()}


def flatten(scores: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """All leaves of nested scores, and where they stand."""
    for name, value in scores.items():
        if isinstance(value, Mapping):
            yield from flatten(value, (*path, name))
        else:
            yield (*path, name), value


def _equals(figure: Figure, value: float, corpus: Weights) -> bool:
    own = figure.on(corpus)[0]
    return bool(np.isnan(own) or np.isclose(own, value, rtol=0, atol=1e-9))


def _add_up(path: Path, parts: Sequence[dict[Path, Any]]) -> Fraction | Ratio | RocAuc | None:
    """What the texts contribute to a figure; None where it is made of something else."""
    means = [(i, mean) for i, part in enumerate(parts) if isinstance(mean := part.get(path), MeanScore)]
    if means:
        return Ratio([i for i, _ in means], [mean.total for _, mean in means], [mean.count for _, mean in means])
    values = [(i, part[path]) for i, part in enumerate(parts) if isinstance(part.get(path), _Part)]
    if not values:
        return None
    kind = values[0][1].kind
    if kind == "auc":
        triples = [(i, *pair) for i, part in values for pair in part.made_of]
        return RocAuc(*map(list, zip(*triples, strict=True))) if triples else None
    counted = [(i, part.made_of) for i, part in values if any(part.made_of)]
    return Fraction(kind, [i for i, _ in counted], [counts for _, counts in counted])


def _find_means(path: Path, whole: Mapping[Path, Any], found: Mapping[Path, ScoreFigure]) -> ScoreFigure | None:
    """spaCy's macro scores, and `cats_score` and the like, which are one of the others; None for what is neither."""
    prefix, _, kind = path[-1].rpartition("_")
    if prefix.endswith("_macro") and kind in "prf":
        group = f"{prefix.removesuffix('_macro')}_f_per_type"
        labels = [figure for other, figure in found.items() if other[0] == group and other[-1] == kind]
    elif prefix.endswith("_macro") and kind == "auc":
        group = f"{prefix.removesuffix('_macro')}_auc_per_type"
        labels = [found.get(other) or RocAuc([], [], []) for other in whole if other[0] == group]
    elif kind == "score":
        described = str(whole.get((f"{prefix}_score_desc",)))
        if described.startswith("F ("):
            return found.get((f"{prefix}_f_per_type", described[3:-1], "f"))
        same = {"macro F": f"{prefix}_macro_f", "macro AUC": f"{prefix}_macro_auc", "micro F": f"{prefix}_micro_f"}
        other = (same.get(described, ""),)
        return found.get(other) or _find_means(other, whole, found)
    else:
        return None
    known = [label for label in labels if isinstance(label, Fraction | RocAuc)]
    return Mean(known) if known else Fraction(kind, [], [])


# Figures that remember


class _Part(float):
    """A figure of one text's scores: its value, which no one needs, is 0.

    kind: "p", "r", "f" or "auc".
    made_of: the counts of true positives, false positives and false negatives; or pairs of score and gold value.
    """

    __slots__ = ("kind", "made_of")
    kind: str
    made_of: Any

    @classmethod
    def of(cls, kind: str, made_of: Any) -> _Part:
        part = cls()
        part.kind, part.made_of = kind, made_of
        return part


class _RememberingPRF(PRFScore):
    @property
    def precision(self) -> float:
        return _Part.of("p", (self.tp, self.fp, self.fn))

    @property
    def recall(self) -> float:
        return _Part.of("r", (self.tp, self.fp, self.fn))

    @property
    def fscore(self) -> float:
        return _Part.of("f", (self.tp, self.fp, self.fn))


class _RememberingAUC(ROCAUCScore):
    def is_binary(self) -> bool:
        """One text has one gold value, and spaCy would give nothing."""
        return True

    @property
    def score(self) -> float:
        return _Part.of("auc", list(zip(self.cands, self.golds, strict=True)))


@contextlib.contextmanager
def _remembering() -> Iterator[None]:
    """Within, spaCy's scorers make their figures by the classes above, which they look up in their module."""
    originals = scorer.PRFScore, scorer.ROCAUCScore
    scorer.PRFScore, scorer.ROCAUCScore = _RememberingPRF, _RememberingAUC  # type: ignore[misc]
    try:
        yield
    finally:
        scorer.PRFScore, scorer.ROCAUCScore = originals  # type: ignore[misc]
