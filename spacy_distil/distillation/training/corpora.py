"""Whether the corpora of a run can be read, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from spacy.language import Language
from spacy.training import Example

from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.training.randomness import RandomState


def check_corpora(nlp: Language, corpora: Mapping[str, Callable[[Language], Iterable[Example]]]) -> None:
    """Read an example of each. The random states stay as they are, though a corpus may be shuffled.

    corpora: by their dotted names in the config.
    RAISES: DistillationError for one that has none; whatever a reader raises for files that it can't read.
    """
    state = RandomState.capture()
    try:
        for name, corpus in corpora.items():
            if next(iter(corpus(nlp)), None) is None:
                raise DistillationError(
                    f"There is no example in [{name}], {_block(nlp, name)}: its file is empty, or all of its texts are left "
                    "out. Name a file with texts, or let it leave out fewer."
                )
    finally:
        state.restore()


def _block(nlp: Language, name: str) -> Any:
    """Its settings, as far as it has a block of its own."""
    block = nlp.config.interpolate()
    for part in name.split("."):
        block = block.get(part, {})
    return block
