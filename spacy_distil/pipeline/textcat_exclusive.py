"""The component `textcat_exclusive`: spaCy's `textcat`, for Docs that carry the categories of other components too.

Sets `doc.cats[label]` for each of its labels; the scores sum to 1. Where two of them are called positive and negative, in
whatever case, also `doc.sentiment` to P(positive) - P(negative). Its own scores carry its name in place of `cats`, such as
`sentiment_macro_f` for a component `sentiment`.

spaCy's `textcat` takes all of a Doc's categories for its own: beside a `textcat_multilabel` it rejects texts in which more than
one category holds (E895), and each of the two overwrites the other's `cats_score`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from spacy.errors import Errors
from spacy.language import Language
from spacy.pipeline.textcat import TextCategorizer
from spacy.scorer import Scorer
from spacy.tokens import Doc
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Config, Model
from thinc.types import Floats2d

from spacy_distil.pipeline.sentiment import find_poles, set_sentiment

default_model_config = """
[model]
@architectures = "spacy-distil.TextCatCls.v1"
exclusive_classes = true
dropout = 0.2

[model.tok2vec]
@architectures = "spacy-distil.DistilBertListener.v1"
upstream = "*"
"""
DEFAULT_MODEL = Config().from_str(default_model_config)["model"]


@Language.factory(
    "textcat_exclusive",
    assigns=["doc.cats", "doc.sentiment"],
    requires=["doc.tensor"],
    default_config={"model": DEFAULT_MODEL},
    default_score_weights={},
)
def make_textcat_exclusive(
    nlp: Language, name: str, model: Model[list[Doc], list[Floats2d]]
) -> ExclusiveTextCategorizer:
    """Make the component.

    model: scores (docs, labels) that sum to 1, as `spacy-distil.TextCatCls.v1` and spaCy's textcats give.
    """
    return ExclusiveTextCategorizer(nlp.vocab, model, name)


class ExclusiveTextCategorizer(TextCategorizer):
    """spaCy's `textcat`, which overlooks categories that are not its own. Name its labels in `[initialize.components]`."""

    def __init__(self, vocab: Vocab, model: Model, name: str = "textcat_exclusive") -> None:
        super().__init__(vocab, model, name, threshold=0.0, scorer=self._score_own_labels)

    def set_annotations(self, docs: Iterable[Doc], scores: Floats2d) -> None:
        docs = list(docs)
        super().set_annotations(docs, scores)
        if (poles := find_poles(self.labels)) is not None:
            for doc in docs:
                set_sentiment(doc, poles)

    def _validate_categories(self, examples: Iterable[Example]) -> None:
        for example in examples:
            own = {label: value for label, value in example.reference.cats.items() if label in self.labels}
            values = list(own.values())
            if values.count(1.0) > 1:
                raise ValueError(Errors.E895.format(value=own))
            for value in values:
                if value not in (0.0, 1.0):
                    raise ValueError(Errors.E851.format(val=value))

    def _score_own_labels(self, examples: Iterable[Example], **config: Any) -> dict[str, Any]:
        return Scorer.score_cats(
            examples, self.name, getter=lambda doc, attr: doc.cats, labels=self.labels, multi_label=False
        )
