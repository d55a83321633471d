"""The component `doc_sentiment`: spaCy's own `doc.sentiment` from the categories of a text.

Sets `doc.sentiment` to P(positive) - P(negative), -1 to 1. `textcat_exclusive` does so by itself; this component stands behind
a `textcat` or `textcat_multilabel` of spaCy's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from spacy.language import Language
from spacy.tokens import Doc

POSITIVE, NEGATIVE = "positive", "negative"


@Language.component("doc_sentiment", assigns=["doc.sentiment"], requires=["doc.cats"])
def doc_sentiment(doc: Doc) -> Doc:
    """Raises ValueError for a Doc with categories that do not say what is positive and what is negative."""
    labels = find_poles(doc.cats)
    if labels is not None:
        set_sentiment(doc, labels)
    elif doc.cats:
        raise ValueError(
            f"doc_sentiment needs a category 'positive' and one 'negative', in whatever case, and the Doc has "
            f"{', '.join(sorted(doc.cats))}. Rename the labels of your text classifier, or remove the component."
        )
    return doc


def find_poles(labels: Iterable[str]) -> tuple[str, str] | None:
    """The labels called positive and negative, in whatever case; None where one of them is missing."""
    by_name: Mapping[str, str] = {label.lower(): label for label in labels}
    if POSITIVE in by_name and NEGATIVE in by_name:
        return by_name[POSITIVE], by_name[NEGATIVE]
    return None


def set_sentiment(doc: Doc, poles: tuple[str, str]) -> None:
    positive, negative = poles
    doc.sentiment = doc.cats[positive] - doc.cats[negative]
