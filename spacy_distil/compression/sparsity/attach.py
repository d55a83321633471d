"""How pruning is attached to training: a callback of the stock `spacy train`, and of `distil train`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import spacy
from spacy.language import Language
from spacy.util import logger

from spacy_distil.compression.encoders import find_encoders
from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.requirements import require_format
from spacy_distil.compression.sparsity.evaluation import PruningEvaluation
from spacy_distil.compression.sparsity.pruner import Pruner
from spacy_distil.compression.sparsity.settings import BLOCK, Settings
from spacy_distil.encoder.checkpoint import SPARSE_FORMAT

CALLBACK = "spacy-distil.attach_pruning.v1"


@spacy.registry.callbacks(CALLBACK)
def attach_pruning() -> Callable[..., None]:
    """A callback for `[training.before_update]`, beside a teacher or not, and for `[initialize.after_init]`: from then on
    training prunes the encoder as the config's block `[pruning]` says.

        [training.before_update]
        @callbacks = "spacy-distil.attach_pruning.v1"

        [pruning]
        sparsity = 0.9

    The fields of the block are those of `spacy_distil.compression.sparsity.settings`. What is saved is a pipeline whose
    pruned weights are zero, and stay so when it is trained on.

    RAISES: CompressionError when the callback runs first, before training.
    """

    def callback(nlp: Language, info: dict[str, Any] | None = None) -> None:
        if info is None or info["step"] == 0:
            attach(nlp)

    return callback


def attach(nlp: Language) -> None:
    """Attach what the config's block says to the encoders of an initialised pipeline."""
    config: dict[str, Any] = nlp.config.interpolate()
    if BLOCK not in config:
        raise CompressionError(f"The config has no block [{BLOCK}]. Add one that says how much: sparsity = 0.9.")
    settings = Settings.from_block(config[BLOCK])
    encoders = find_encoders(nlp)
    chosen = list(encoders) if settings.components is None else settings.components
    for name in chosen:
        if name not in encoders:
            raise CompressionError(
                f"[{BLOCK}] components names '{name}', which has no DistilBERT or BERT encoder. Those that have: "
                f"{', '.join(encoders)}."
            )
        if name in config["training"]["frozen_components"]:
            raise CompressionError(
                f"[{BLOCK}] '{name}' is one of the frozen_components of [training], and is not trained: take it out of there, "
                "or name the components to prune."
            )
    check_length(settings.schedule.end, config["training"])
    pruners = {name: Pruner(encoders[name], settings, name) for name in chosen}
    for name, pruner in pruners.items():
        encoders[name].zeros = pruner
    require_format(nlp, SPARSE_FORMAT)
    nlp.evaluate = PruningEvaluation(nlp, nlp.evaluate, list(pruners.values()))  # type: ignore[method-assign,assignment]
    logger.info("Pruning %s to a sparsity of %s.", ", ".join(pruners), settings.selection.sparsity)


def check_length(end: int, training: Mapping[str, Any]) -> None:
    """Say where training ends before pruning does, or may.

    end: the step at which the last sparsity is reached.
    training: the block of the config.
    RAISES: CompressionError where it surely does.
    """
    if training["max_steps"] and training["max_steps"] < end:
        raise CompressionError(
            f"[{BLOCK}] end = {end} lies behind the last step of training, max_steps = {training['max_steps']}: the sparsity "
            "would not be reached. Prune earlier, or train longer."
        )
    if training["max_epochs"] > 0:
        logger.warning(
            "[%s] ends at step %d. If max_epochs = %d ends training before, the pipeline is less sparse: its SCORE is below "
            "zero then.",
            BLOCK,
            end,
            training["max_epochs"],
        )
