"""Pipelines around a tiny random encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language
from spacy.training import Example

from spacy_distil.pipeline.references import register_references

LISTENER = {"@architectures": "spacy-distil.DistilBertListener.v1"}
SPACY_LISTENER = {"@architectures": "spacy.Tok2VecListener.v1", "width": 32}
TRANSFORMER_LISTENER = {
    "@architectures": "spacy-transformers.TransformerListener.v1",
    "pooling": {"@layers": "reduce_mean.v1"},
    "grad_factor": 1.0,
}
TEXTS = ["The film was great.", "A bad story, and the end is endless!", "London", "The  wonderful café\n\nin Berlin ."]


def tagger(listener: dict[str, Any]) -> dict[str, Any]:
    return {"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": listener}}


def ner(listener: dict[str, Any]) -> dict[str, Any]:
    model = {"@architectures": "spacy.TransitionBasedParser.v2", "state_type": "ner", "extra_state_tokens": False}
    return {"model": {**model, "hidden_width": 16, "maxout_pieces": 2, "use_upper": True, "tok2vec": listener}}


def textcat(tok2vec: dict[str, Any]) -> dict[str, Any]:
    architecture = "spacy-distil.TextCatCls.v1"
    return {"model": {"@architectures": architecture, "exclusive_classes": True, "tok2vec": tok2vec}}


def examples(nlp: Language) -> list[Example]:
    """Words as tags, capitalised words as entities, whether a text has an exclamation mark as its category, and its first words
    as its summary."""
    register_references()
    made = []
    for text in TEXTS:
        doc = nlp.make_doc(text)
        tags = ["UPPER" if token.is_title else "LOWER" for token in doc]
        entities = [(token.idx, token.idx + len(token), "NAME") for token in doc if token.is_title]
        cats = {"LOUD": float("!" in text), "QUIET": float("!" not in text)}
        made.append(Example.from_dict(doc, {"tags": tags, "entities": entities, "cats": cats}))
        made[-1].reference._.summaries = [doc[:3].text]
    return made


Build = Callable[..., Language]


@pytest.fixture
def build(distilbert_folder: Path) -> Build:
    """An initialised pipeline of the encoder and components by name, each `factory=config`."""

    def make(*, encoder: dict[str, Any] | None = None, keep: str = "tokens", **components: dict[str, Any]) -> Language:
        spacy.util.fix_random_seed(0)
        nlp = spacy.blank("en")
        model = {"name": str(distilbert_folder), "precision": "float32", **(encoder or {})}
        nlp.add_pipe("distilbert", config={"model": model, "keep": keep})
        for name, config in components.items():
            nlp.add_pipe(name, config=config)
        nlp.initialize(lambda: examples(nlp))
        return nlp

    return make
