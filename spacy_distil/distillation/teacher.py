"""The teacher: loaded once, fed with the student's tokens on its own vocabulary, run without gradient, and not at all where
its answers are known."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy
import spacy
import srsly
from spacy.attrs import IDX, LENGTH
from spacy.language import Language
from spacy.tokens import Doc
from spacy.vocab import Vocab
from thinc.util import to_numpy

from spacy_distil.digests import add_file
from spacy_distil.distillation.answers import AnswerStore, Space
from spacy_distil.distillation.errors import TeacherError
from spacy_distil.distillation.hidden_states.states import kept_on_docs
from spacy_distil.distillation.lessons import Answer, Array

Ask = Callable[[Any, Sequence[Doc], Sequence[Array]], list[Answer]]

_NOTHING = numpy.zeros(0, dtype="int64")

BATCH_SIZE = 256
"""Docs that an upstream component of the teacher gets at once: a whole training batch, in all but odd cases."""


@cache
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
    store: where its answers are kept; None asks it anew each time.
    encoder: name of the component whose hidden states teach, None if none does.
    """

    def __init__(
        self,
        nlp: Language,
        components: Iterable[str],
        store: AnswerStore | None = None,
        encoder: str | None = None,
    ) -> None:
        self.nlp = nlp
        self.components = tuple(components)
        self.store = store
        self.encoder = encoder
        self._spaces: dict[str, Space] = {}

    @cached_property
    def digest(self) -> str:
        """Of all that its answers depend on: two teachers that could differ in one have different digests."""
        digest = hashlib.blake2b(digest_size=16)
        folder = self.nlp.path
        if folder is None:
            digest.update(self.nlp.to_bytes())
        else:
            for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
                digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
                add_file(digest, path)
        return digest.hexdigest()

    def upstream(self, component: str) -> list[str]:
        """What must run before a component can be asked: the encoders that it listens to, directly or through another encoder,
        whatever annotated the documents when the teacher itself was trained, and, of an encoder, itself."""
        annotating = self.nlp.config["training"].get("annotating_components") or []
        needed, upstream = {component}, []
        for name, pipe in reversed(self.nlp.components[: self.nlp.component_names.index(component)]):
            if name in annotating or not needed.isdisjoint(getattr(pipe, "listening_components", [])):
                needed.add(name)
                upstream.append(name)
        return upstream[::-1] + ([component] if component == self.encoder else [])

    def copy(self, docs: Sequence[Doc]) -> list[Doc]:
        """Bare documents with the same tokens, on the teacher's vocabulary, where static vectors and lexical attributes are
        those that it was trained with."""
        return bare_docs(docs, self.nlp.vocab)

    def annotate(self, docs: Sequence[Doc], components: Sequence[str]) -> None:
        """Run components on the teacher's own documents: a listener on a document that its encoder has not seen gives zeros
        without a word."""
        filled = [doc for doc in docs if len(doc)]  # some encoders fail on others
        for name in components:
            pipe: Any = self.nlp.get_pipe(name)
            with kept_on_docs(pipe) if name == self.encoder else nullcontext():
                for _ in pipe.pipe(filled, batch_size=BATCH_SIZE):
                    pass

    def hear(self, docs: Sequence[Doc]) -> Hearing:
        return Hearing(self, docs)

    def space(self, question: str) -> Space | None:
        """The place of the answers to a question, in the store."""
        if self.store is None:
            return None
        if question not in self._spaces:
            self._spaces[question] = self.store.space(f"{self.digest} {question}")
        return self._spaces[question]


class Hearing:
    """A teacher before one batch: it reads, once, those documents whose answers are not in the store.

    docs: the student's.
    """

    def __init__(self, teacher: Teacher, docs: Sequence[Doc]) -> None:
        self.teacher, self.docs = teacher, docs
        self._annotated: dict[int, tuple[Doc, list[str]]] = {}

    def ask(
        self, name: str, ask: Ask, premises: Sequence[Array] | None = None, *, question: str = "scores"
    ) -> list[Answer]:
        """What a component says of each document.

        name: the component's.
        ask: gives its answers, from the component, its documents and their premises.
        premises: what the answers depend on beside the tokens, see `Distiller`.
        question: tells this `ask` from others of the same component.
        """
        pipe: Any = self.teacher.nlp.get_pipe(name)
        space = self.teacher.space(f"{name} {question}")
        given = list(premises) if premises is not None else [_NOTHING] * len(self.docs)
        answers: list[Answer | None] = [None] * len(self.docs)
        keys = []
        if space is not None:
            keys = [_key(doc, premise) for doc, premise in zip(self.docs, given, strict=True)]
            answers = [space.get(key) for key in keys]
        missing = [i for i, answer in enumerate(answers) if answer is None]
        if missing:
            fresh = ask(pipe, self._annotate(name, missing), [given[i] for i in missing])
            for i, answer in zip(missing, fresh, strict=True):
                answers[i] = answer
                if space is not None:
                    space.put(keys[i], {key: to_numpy(array) for key, array in answer.items()})
        asarray = pipe.model.ops.asarray
        return [{key: asarray(array) for key, array in answer.items()} for answer in answers if answer is not None]

    def _annotate(self, name: str, numbers: list[int]) -> list[Doc]:
        """The teacher's documents of these numbers, ready for a component."""
        upstream = self.teacher.upstream(name)
        ready = {i for i in numbers if i in self._annotated and self._is_ready(self._annotated[i][1], upstream)}
        unread = [i for i in numbers if i not in ready]
        docs = self.teacher.copy([self.docs[i] for i in unread])
        self.teacher.annotate(docs, upstream)
        self._annotated.update((i, (doc, upstream)) for i, doc in zip(unread, docs, strict=True))
        return [self._annotated[i][0] for i in numbers]

    def _is_ready(self, run: list[str], needed: list[str]) -> bool:
        """Whether all that is needed has run, and no encoder after it: all encoders leave their rows in the same place."""
        encoders = [name for name in run if hasattr(self.teacher.nlp.get_pipe(name), "listening_components")]
        return set(needed) <= set(run) and set(encoders) <= set(needed)


def bare_docs(docs: Iterable[Doc], vocab: Vocab) -> list[Doc]:
    """Documents with the same tokens and no annotation."""
    return [Doc(vocab, words=[t.text for t in doc], spaces=[bool(t.whitespace_) for t in doc]) for doc in docs]


def _key(doc: Doc, premise: Array) -> bytes:
    """The document's text, its division into tokens, and the premise."""
    digest = hashlib.blake2b(digest_size=20)
    text, tokens, given = doc.text.encode(), doc.to_array([IDX, LENGTH]).tobytes(), to_numpy(premise)
    for part in (text, tokens, str((given.dtype.str, given.shape)).encode(), given.tobytes()):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


def _requirements(teacher: str) -> str:
    meta = Path(teacher) / "meta.json"
    try:
        required = srsly.read_json(meta).get("requirements")
    except (OSError, ValueError):  # it is not there, or what is damaged
        return ""
    return f" (its meta.json names {', '.join(required)})" if required else ""
