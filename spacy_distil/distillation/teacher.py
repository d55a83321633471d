"""The teacher: loaded once, fed with the student's tokens on its own vocabulary, run without gradient."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import spacy
import srsly
from spacy.language import Language
from spacy.tokens import Doc

from spacy_distil.distillation.errors import TeacherError

BATCH_SIZE = 256
"""Docs that an upstream component of the teacher gets at once: a whole training batch, in all but odd cases."""


@lru_cache(maxsize=1)
def load_teacher(teacher: str) -> Language:
    """Load the pipeline that teaches. Called again with the same name, it gives the same pipeline: each block of a
    config that asks for the teacher's labels gets them from one load.

    teacher: folder of a trained pipeline, or name of an installed package.
    RAISES: TeacherError if there is no pipeline, or if something that it needs is not installed.
    """
    try:
        return spacy.load(teacher)
    except OSError as error:
        raise TeacherError(
            f"The teacher '{teacher}' is no pipeline: {error} "
            "Give the folder that `spacy train` wrote (model-best), or the name of an installed package."
        ) from error
    except Exception as error:  # a missing package shows itself in many types, the registry's own among them
        raise TeacherError(
            f"The teacher '{teacher}' can't be loaded: {error}\n"
            f"If a factory or a registered function is unknown, install the package that has it{_requirements(teacher)}, "
            "or give the file that registers it by --code."
        ) from error


class Teacher:
    """A trained pipeline, of which some components teach the student's of the same name.

    nlp: the pipeline.
    components: names of the components that teach.
    """

    def __init__(self, nlp: Language, components: Iterable[str]) -> None:
        self.nlp = nlp
        self.components = tuple(components)
        self._upstream = _upstream(nlp, self.components)

    def annotate(self, docs: Sequence[Doc]) -> list[Doc]:
        """The teacher's own documents, ready for the teaching components.

        They stand on the teacher's vocabulary, where static vectors and lexical attributes are those that it was trained
        with, and hold the output of its encoders: a listener on a document that its encoder has not seen gives zeros
        without a word.

        docs: the student's documents, of which only the tokens are read.
        RETURNS: as many documents, with the same tokens.
        """
        taught = [Doc(self.nlp.vocab, words=[t.text for t in d], spaces=[bool(t.whitespace_) for t in d]) for d in docs]
        for name in self._upstream:
            pipe: Any = self.nlp.get_pipe(name)
            taught = list(pipe.pipe(taught, batch_size=BATCH_SIZE))
        return taught


def _upstream(nlp: Language, components: Sequence[str]) -> list[str]:
    """The components that must run before `components` can be scored: the encoders that these listen to, directly or through
    another encoder, and whatever annotated the documents when the teacher itself was trained."""
    annotating = nlp.config["training"].get("annotating_components") or []
    needed, upstream = set(components), []
    last = max(nlp.component_names.index(name) for name in components)
    for name, pipe in reversed(nlp.components[:last]):
        if name in annotating or not needed.isdisjoint(getattr(pipe, "listening_components", [])):
            needed.add(name)
            upstream.append(name)
    return upstream[::-1]


def _requirements(teacher: str) -> str:
    meta = Path(teacher) / "meta.json"
    required = srsly.read_json(meta).get("requirements") if meta.is_file() else None
    return f" (its meta.json names {', '.join(required)})" if required else ""
