"""Which version of this package reads a pipeline, as its `meta.json` says it."""

from __future__ import annotations

from spacy.language import Language
from spacy.util import split_requirement

from spacy_distil.encoder.checkpoint import NEEDS

PACKAGE = "spacy-distil"


def require_format(nlp: Language, form: str) -> None:
    """Let a pipeline require a version that reads a format of weights, unless it requires a later one. A package of it then
    asks pip for that."""
    others, versions = [], [NEEDS[form]]
    for requirement in nlp.meta.get("requirements", []):
        name, version = split_requirement(requirement)
        if name != PACKAGE:
            others.append(requirement)
        elif version.removeprefix(">=") in NEEDS.values():
            versions.append(version.removeprefix(">="))
    latest = max(versions, key=list(NEEDS.values()).index)
    nlp.meta["requirements"] = [*others, f"{PACKAGE}>={latest}"]
