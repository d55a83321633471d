"""How good a pipeline is, in one number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from spacy.language import Language
from spacy.training import Example

from spacy_distil.compression.errors import CompressionError


def score(
    nlp: Language, examples: Iterable[Example], weights: Mapping[str, float | None]
) -> tuple[dict[str, float], float]:
    """The scores with a weight, and their weighted mean.

    RAISES: CompressionError where the corpus has none of them.
    """
    found = nlp.evaluate(examples)
    scores = {
        name: found[name] for name, weight in weights.items() if weight and isinstance(found.get(name), float | int)
    }
    if not scores:
        wanted = ", ".join(name for name, weight in weights.items() if weight) or "none"
        raise CompressionError(
            "There is nothing by which smaller pipelines could be compared: the corpus gives no score that has a weight in "
            f"[training.score_weights], which are {wanted}."
        )
    total = sum(weights[name] or 0.0 for name in scores)
    return scores, sum(value * (weights[name] or 0.0) for name, value in scores.items()) / total
