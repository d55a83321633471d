"""How good a pipeline is, in one number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from spacy.language import Language
from spacy.training import Example

from spacy_distil.compression.errors import CompressionError


def score(nlp: Language, examples: Iterable[Example], weights: Mapping[str, float]) -> tuple[dict[str, float], float]:
    """The scores with a weight, and their weighted mean.

    RAISES: CompressionError where the corpus has none of them.
    """
    found = nlp.evaluate(examples)
    scores = {name: found[name] for name in weights if isinstance(found.get(name), float | int)}
    if not scores:
        raise CompressionError(
            "There is nothing by which smaller pipelines could be compared: the corpus gives no score that has a weight in "
            f"[training.score_weights], which are {', '.join(weights) or 'none'}."
        )
    return scores, float(np.average(list(scores.values()), weights=[weights[name] for name in scores]))
