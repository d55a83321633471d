"""Scores without gold labels: how far the student agrees with the teacher."""

from collections.abc import Iterable, Mapping, Sequence
from types import MethodType
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import logger

from spacy_distil.distillation.gold import has_gold, take_over
from spacy_distil.distillation.teacher import bare_docs


class Evaluation:
    """Replaces `Language.evaluate` on one instance. Where the corpus annotates nothing of what a component learns, the
    teacher's annotation stands in for it, and spaCy's scorers then measure agreement.

    nlp: the student.
    teachers: for each taught component, the pipeline whose annotation counts.
    """

    def __init__(self, nlp: Language, teachers: Mapping[str, Language]) -> None:
        self.nlp = nlp
        self.teachers = dict(teachers)
        self._said: dict[tuple[int, str], Doc] = {}
        self._told = False

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy or a pickle of the student is a plain pipeline: the teacher stays here."""
        return stock_method, (self.nlp, "evaluate")

    def __call__(self, examples: Iterable[Example], **settings: Any) -> dict[str, Any]:
        """Arguments and result are those of `Language.evaluate`."""
        examples = list(examples)
        bare = [
            name
            for name in self.teachers
            if not any(has_gold(self.nlp.get_pipe(name), example.reference) for example in examples)
        ]
        if bare and not self._told:
            logger.info("No gold labels to evaluate %s: the scores are agreement with the teacher.", ", ".join(bare))
            self._told = True
        if bare:
            examples = self._filled(examples, bare)
        return stock_method(self.nlp, "evaluate")(examples, **settings)

    def _filled(self, examples: Sequence[Example], components: Sequence[str]) -> list[Example]:
        references = [example.reference.copy() for example in examples]
        for name in components:
            pipe = self.nlp.get_pipe(name)
            for reference, said in zip(references, self._ask(self.teachers[name], references), strict=True):
                take_over(pipe, said, reference)
        return [Example(example.predicted, ref) for example, ref in zip(examples, references, strict=True)]

    def _ask(self, teacher: Language, docs: Sequence[Doc]) -> list[Doc]:
        """The teacher's annotation of the same tokens; each text is read once a run."""
        keys = [(id(teacher), _tokens(doc)) for doc in docs]
        unread = {key: doc for key, doc in zip(keys, docs, strict=True) if key not in self._said}
        for key, doc in zip(unread, teacher.pipe(bare_docs(unread.values(), teacher.vocab)), strict=True):
            doc.tensor = doc.tensor[:0]
            self._said[key] = doc
        return [self._said[key] for key in keys]


def stock_method(nlp: Language, name: str) -> MethodType:
    """spaCy's own method of a pipeline, where the instance has another in its place."""
    return MethodType(getattr(type(nlp), name), nlp)


def _tokens(doc: Doc) -> str:
    return "\0".join(token.text_with_ws for token in doc)
