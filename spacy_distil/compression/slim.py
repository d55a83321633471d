"""A trained pipeline with smaller encoders: whole layers, heads and neurons, and word pieces removed for good."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from spacy.language import Language
from spacy.training import Example

from spacy_distil.compression.budget import Cost, check_budget, choose_parts, multiply_adds
from spacy_distil.compression.encoders import check_trainable, find_encoders, set_freeze
from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.followers import check_pieces, follow_pieces
from spacy_distil.compression.importance import Importance, measure_importance
from spacy_distil.compression.labels import with_own_labels
from spacy_distil.compression.seconds import measure_seconds
from spacy_distil.compression.structured import Parts, keep_parts, shape_of, whole_layers
from spacy_distil.compression.vocabulary import choose_pieces, keep_pieces, read_wordpiece
from spacy_distil.encoder.config import EncoderConfig
from spacy_distil.encoder.shim import DistilBertShim, to_checkpoint
from spacy_distil.pipeline.encoders import encoders_of

SAMPLE = 1000
"""Texts on which importance is measured, if the corpus has more."""


@dataclass(frozen=True)
class Slimmed:
    """What has become of an encoder.

    parts: what stays of its layers, in the numbers that they had.
    cost: what it was made smaller by.
    """

    before: EncoderConfig
    after: EncoderConfig
    parts: Parts
    cost: Cost


def slim(
    nlp: Language,
    examples: Sequence[Example] = (),
    *,
    compute: float = 1.0,
    layers: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    coverage: float | None = None,
    sample: int = SAMPLE,
    importance: Mapping[str, Importance] | None = None,
    cost: Cost | Literal["seconds"] = multiply_adds,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Slimmed]:
    """Make every encoder of a pipeline smaller, in place. To be trained on, it needs a new optimiser, as `nlp.resume_training`
    makes one.

    Importance is measured with all layers in place, where the components still make sense of what the encoder gives them.

    examples: a corpus like that which the pipeline is for, with or without annotation. None are needed for `layers` alone.
    compute: the share of each encoder's cost that heads and neurons may have afterwards. 1.0: all stay.
    layers: the layers that stay, counted from 0, of all encoders or of each by its name; None: all.
    coverage: the share of the corpus's word pieces that stay in the vocabulary, see `choose_pieces`; None: all pieces stay.
    sample: texts on which importance is measured, chosen at random.
    importance: what `measure_sample` has found; None: it is measured here.
    cost: of an encoder of a shape; seconds: the time of a batch of the examples, as it is measured here.
    RETURNS: what has become of each encoder, by the name of its component.
    RAISES: CompressionError, before anything has changed, for what can't be done.
    """
    encoders = find_encoders(nlp)
    check_trainable(encoders)
    kept = dict(layers) if isinstance(layers, Mapping) else dict.fromkeys(encoders, layers)
    if cost == "seconds" and examples:
        progress("Measuring what heads and neurons take")
        texts = [example.reference.text for example in examples[:sample]]
        costs: dict[str, Cost] = {name: measure_seconds(shim, texts) for name, shim in encoders.items()}
    else:
        costs = dict.fromkeys(encoders, multiply_adds if cost == "seconds" else cost)
    _check(encoders, compute, kept, coverage, costs)
    if not examples and ((compute < 1 and importance is None) or coverage is not None):
        raise CompressionError("Importance and the use of word pieces are measured on a corpus: name one.")
    if coverage is not None:
        for _, pipe in nlp.components:
            check_pieces(pipe)
    before = {name: shim.encoder.config for name, shim in encoders.items()}
    parts = {name: whole_layers(config, kept[name]) for name, config in before.items()}
    costly = [name for name, c in before.items() if costs[name](shape_of(c, parts[name])) > compute * costs[name](c)]
    if costly:
        measured = importance or measure_sample(nlp, examples, costly, sample=sample, progress=progress)
        for name in costly:
            parts[name] = choose_parts(before[name], measured[name], compute, layers=kept[name], cost=costs[name])
    for name, shim in encoders.items():
        cut(nlp, shim, parts[name])
    if coverage is not None:
        for shim in encoders.values():
            _cut_vocabulary(nlp, shim, examples, coverage)
    nlp._optimizer = None  # its moments have the old shapes
    nlp.meta["performance"] = {}  # the scores were the whole pipeline's
    return {
        name: Slimmed(before[name], shim.encoder.config, parts[name], costs[name]) for name, shim in encoders.items()
    }


def measure_sample(
    nlp: Language,
    examples: Sequence[Example],
    names: Collection[str] | None = None,
    *,
    sample: int = SAMPLE,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Importance]:
    """The importance of heads and neurons on some texts of a corpus, for any number of budgets.

    names: of the encoders; None: all. The rest is as in `slim`.
    """
    encoders = find_encoders(nlp)
    chosen = random.Random(0).sample(examples, min(sample, len(examples)))
    progress(f"Measuring importance on {len(chosen)} texts")
    of_these = {name: shim for name, shim in encoders.items() if names is None or name in names}
    return measure_importance(nlp, of_these, with_own_labels(nlp, chosen))


def cut(nlp: Language, shim: DistilBertShim, parts: Parts) -> None:
    """Keep some parts of one of a pipeline's encoders. Of the layers that were frozen those stay so that are left."""
    if isinstance(shim.options.freeze, int):
        set_freeze(nlp, shim, sum(part.layer < shim.options.freeze for part in parts))
    shim.adopt(keep_parts(to_checkpoint(shim), parts))


def _check(
    encoders: dict[str, DistilBertShim],
    compute: float,
    layers: Mapping[str, Sequence[int] | None],
    coverage: float | None,
    costs: Mapping[str, Cost],
) -> None:
    if not 0 < compute <= 1:
        raise CompressionError(f"compute = {compute}: the share of the multiply-adds is above 0 and at most 1.")
    if coverage is not None and not 0 < coverage <= 1:
        raise CompressionError(f"coverage = {coverage}: the share of the corpus's pieces is above 0 and at most 1.")
    if compute == 1 and coverage is None and all(kept is None for kept in layers.values()):
        raise CompressionError("Nothing is to be removed: ask for a share of compute, for layers, or for a vocabulary.")
    for name, shim in encoders.items():
        config = shim.encoder.config
        check_budget(config, compute, layers=layers[name], cost=costs[name])
        if coverage is not None:
            read_wordpiece(shim.tokenizer)


def _cut_vocabulary(nlp: Language, shim: DistilBertShim, examples: Sequence[Example], coverage: float) -> None:
    checkpoint = to_checkpoint(shim)
    pieces = choose_pieces(checkpoint.tokenizer, examples, coverage)
    shim.adopt(keep_pieces(checkpoint, pieces))
    for _, pipe in nlp.components:
        if any(inside is shim for inside in encoders_of(pipe)):
            follow_pieces(pipe, pieces)
