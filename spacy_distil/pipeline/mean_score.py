"""Scores that are means, of summaries or of answers: numbers that know what they were taken of."""

from __future__ import annotations

from collections.abc import Sequence


class MeanScore(float):
    """The mean of some scores. Means of parts of a corpus can be put together again.

    total, count: the sum of the scores, and their number.
    """

    total: float
    count: int

    @classmethod
    def of(cls, scores: Sequence[float]) -> MeanScore | None:
        """None where there are no scores, as spaCy's scorers have it."""
        if not scores:
            return None
        mean = cls(sum(scores) / len(scores))
        mean.total, mean.count = float(sum(scores)), len(scores)
        return mean
