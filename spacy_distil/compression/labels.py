"""What a corpus without annotation says to the losses: what the pipeline itself says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spacy.language import Language
from spacy.training import Example

from spacy_distil.distillation.gold import has_gold, take_over
from spacy_distil.distillation.teacher import bare_docs


def with_own_labels(nlp: Language, examples: Sequence[Example]) -> list[Example]:
    """The examples, with the pipeline's own predictions for each component for which none of them has annotation.

    RAISES: DistillationError for a component of an unknown kind, whose predictions can't stand for annotation.
    """
    pipes: dict[str, Any] = {
        name: pipe
        for name, pipe in nlp.pipeline
        if getattr(pipe, "is_trainable", False) and not hasattr(pipe, "listening_components")
    }
    bare = [pipe for pipe in pipes.values() if not any(has_gold(pipe, example.reference) for example in examples)]
    if not bare:
        return list(examples)
    references = [example.reference.copy() for example in examples]
    for reference, said in zip(references, nlp.pipe(bare_docs(references, nlp.vocab)), strict=True):
        for pipe in bare:
            take_over(pipe, said, reference)
    return [Example(example.predicted, ref) for example, ref in zip(examples, references, strict=True)]
