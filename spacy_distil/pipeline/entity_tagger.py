"""The component `entity_tagger`: entities from one tag a token, as transformers' token classification finds them.

Sets `doc.ents`, and so `token.ent_type_` and `token.ent_iob_`; `doc._.entity_scores`, the probability of each token's tag; and
`span._.confidence`, the mean over an entity's tokens, which transformers' pipelines call its score. Entities that stand on the
Doc already are kept.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Literal

from spacy.language import Language
from spacy.pipeline import Tagger
from spacy.scorer import get_ner_prf
from spacy.tokens import Doc, Span, Token
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.vocab import Vocab
from thinc.api import Config, Model, SequenceCategoricalCrossentropy, to_numpy
from thinc.types import Floats2d

from spacy_distil.errors import ComponentError
from spacy_distil.pipeline.entity_tags import SCHEMES, EntityTags, make_tags

SCORES_EXTENSION, CONFIDENCE_EXTENSION = "entity_scores", "confidence"
Scheme = Literal["bio", "bilou", "bioes", "plain"]

default_model_config = """
[model]
@architectures = "spacy.Tagger.v2"
nO = null
normalize = false

[model.tok2vec]
@architectures = "spacy-distil.DistilBertListener.v1"
upstream = "*"
"""
DEFAULT_MODEL = Config().from_str(default_model_config)["model"]


@Language.factory(
    "entity_tagger",
    assigns=[
        "doc.ents",
        "token.ent_iob",
        "token.ent_type",
        f"doc._.{SCORES_EXTENSION}",
        f"span._.{CONFIDENCE_EXTENSION}",
    ],
    requires=["doc.tensor"],
    default_config={"model": DEFAULT_MODEL, "scheme": "bio", "scorer": {"@scorers": "spacy.ner_scorer.v1"}},
    default_score_weights={"ents_f": 1.0, "ents_p": 0.0, "ents_r": 0.0, "ents_per_type": None},
)
def make_entity_tagger(
    nlp: Language, name: str, model: Model[list[Doc], list[Floats2d]], scheme: Scheme, scorer: Callable | None
) -> "EntityTagger":
    """Make the component.

    model: scores (tokens, tags) of each Doc, as `spacy.Tagger.v2` gives.
    scheme: the tags that `initialize` makes of the entities in the corpus: `bio`, `bilou`, `bioes`, or `plain`, which can't
        tell neighbours of one type apart. Tags that are given to it say their scheme themselves.
    scorer: the scoring method.
    """
    return EntityTagger(nlp.vocab, model, name, scheme=scheme, scorer=scorer)


class EntityTagger(Tagger):
    """A tagger whose tags are entities. Its labels are the tags, in the order of the model's columns."""

    def __init__(
        self,
        vocab: Vocab,
        model: Model,
        name: str = "entity_tagger",
        *,
        scheme: Scheme = "bio",
        scorer: Callable | None = get_ner_prf,
    ) -> None:
        super().__init__(vocab, model, name, scorer=scorer)
        if scheme not in SCHEMES:
            raise ComponentError(f"scheme = {scheme!r} is not known. Known are {', '.join(SCHEMES)}.")
        self.scheme = scheme
        self._told: set[str] = set()
        if not Doc.has_extension(SCORES_EXTENSION):
            Doc.set_extension(SCORES_EXTENSION, default=None)
        if not Span.has_extension(CONFIDENCE_EXTENSION):
            Span.set_extension(CONFIDENCE_EXTENSION, getter=confidence)

    @property
    def entity_tags(self) -> EntityTags:
        return EntityTags(self.labels)

    # Prediction

    def predict(self, docs: Iterable[Doc]) -> list[tuple[Any, Any]]:
        """For each Doc the number of each token's tag, (tokens,), and its probability, (tokens,)."""
        docs = list(docs)
        if not any(len(doc) for doc in docs):
            return [([], []) for _ in docs]
        predictions = []
        for scores in self.model.predict(docs):
            probabilities = to_numpy(self.probabilities(scores))
            best = probabilities.argmax(axis=1)
            predictions.append((best, probabilities[range(len(best)), best]))
        return predictions

    def probabilities(self, scores: Floats2d) -> Floats2d:
        """(tokens, tags), of what the model predicts: the softmax of a tagger leaves its scores as they are by default."""
        output = self.model.maybe_get_ref("output_layer")
        if output is not None and not output.attrs.get("softmax_normalize", True):
            return self.model.ops.softmax(scores)
        return scores

    def set_annotations(self, docs: Sequence[Doc], predictions: Sequence[tuple[Any, Any]]) -> None:
        tags = self.entity_tags
        for doc, (numbers, scores) in zip(docs, predictions, strict=True):
            taken = {token.i for ent in doc.ents for token in ent}
            found = [
                Span(doc, start, end, label=kind)
                for start, end, kind in tags.decode(numbers, [is_silent(token) for token in doc])
                if taken.isdisjoint(range(start, end))
            ]
            doc.set_ents([*doc.ents, *found], default="outside")
            doc._.set(SCORES_EXTENSION, [float(score) for score in scores])

    # Training

    def get_loss(self, examples: Iterable[Example], scores: Sequence[Floats2d]) -> tuple[float, list[Floats2d]]:
        """Cross-entropy over the tokens whose entity is known."""
        examples = list(examples)
        validate_examples(examples, "EntityTagger.get_loss")
        self._tell_unknown_types(examples)
        tags = self.entity_tags
        truths = [
            [
                None if is_silent(token) else tag
                for token, tag in zip(example.predicted, tags.encode(example.get_aligned_ner()), strict=True)
            ]
            for example in examples
        ]
        d_scores, loss = SequenceCategoricalCrossentropy(names=self.labels, normalize=False)(scores, truths)  # type: ignore[arg-type]
        return float(loss), d_scores

    def _tell_unknown_types(self, examples: Iterable[Example]) -> None:
        types = {ent.label_ for example in examples for ent in example.reference.ents}
        unknown = sorted(types - set(self.entity_tags.types) - self._told)
        if unknown:
            self._told.update(unknown)
            warnings.warn(
                f"The component '{self.name}' knows no entities of the type {', '.join(map(repr, unknown))}, and learns "
                f"nothing from them. It knows {', '.join(self.entity_tags.types)}.",
                stacklevel=2,
            )

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        """Fit the model to its tags.

        labels: the tags, in the order of the model's columns. None makes them of the entities in the examples.
        RAISES: ComponentError where there are none.
        """
        validate_get_examples(get_examples, "EntityTagger.initialize")
        if labels is None:
            types = {ent.label_ for example in get_examples() for ent in example.reference.ents}
            labels = make_tags(self.scheme, sorted(types)) if types else []
        for label in labels:
            self.add_label(label)
        if not self.labels or not self.entity_tags.types:
            raise ComponentError(
                f"The component '{self.name}' has no entities to learn: the examples have none, and no tags are given. Give "
                "it annotated Docs, or tags by [initialize.components]."
            )
        docs = [example.predicted for example in islice(get_examples(), 10)]
        ops = self.model.ops
        self.model.initialize(X=docs, Y=[ops.alloc2f(len(doc), len(self.labels)) for doc in docs])


def is_silent(token: Token) -> bool:
    """Whether nothing of a token is seen: white space and control characters, for which the encoder has no piece."""
    return not any(character.isprintable() and not character.isspace() for character in token.text)


def confidence(span: Span) -> float | None:
    """The mean probability of its tokens' tags, None where no `entity_tagger` has run on the Doc."""
    scores = span.doc._.get(SCORES_EXTENSION)
    if scores is None:
        return None
    seen = [scores[token.i] for token in span if not is_silent(token)]
    return sum(seen) / len(seen) if seen else None
