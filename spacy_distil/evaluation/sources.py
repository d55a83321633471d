"""The pipelines and the corpus of a comparison: finding them, reading them, and the one annotating the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from spacy_distil.corpora.text import TextCorpus
from spacy_distil.evaluation.measure import AskedText
from spacy_distil.evaluation.readings import Statement, find_reading
from spacy_distil.pipeline.question_answering.answers import texts_of
from spacy_distil.pipeline.question_answering.component import QuestionAnswering

CHECKPOINTS = ("model-best", "model-last")  # folders in which a training leaves its pipeline


class CompareError(ValueError):
    """Pipelines that can't be compared, or a training log that can't be read."""


@dataclass(frozen=True)
class Source:
    """A pipeline to compare. Students of one name are runs of one kind, such as three seeds.

    path: a folder, or the name of an installed package.
    """

    name: str
    path: str


def group_by_name(sources: Sequence[Source]) -> dict[str, list[Source]]:
    groups: dict[str, list[Source]] = {}
    for source in sources:
        groups.setdefault(source.name, []).append(source)
    return groups


def check_there(source: Source) -> None:
    """Raises CompareError where there is nothing to load."""
    if not Path(source.path).exists() and not spacy.util.is_package(source.path):
        raise CompareError(
            f"There is no pipeline {source.path!r}: it is neither a folder here nor an installed package."
        )


def load(source: Source) -> Language:
    """Raises CompareError where spaCy does not load it."""
    check_there(source)
    try:
        return spacy.load(source.path)
    except Exception as error:  # whatever a component's own loading raises
        hint = " Name the file that registers it by --code." if "E002" in str(error) else ""
        raise CompareError(f"The pipeline {source.path!r} does not load: {error}{hint}") from error


class AnnotatedCorpus:
    """A corpus as a pipeline annotates it.

    examples: predicted by the pipeline; the references are the corpus's own annotation, if it has any.
    said: what each component says of each text.
    """

    def __init__(self, nlp: Language, path: Path) -> None:
        """path: a `.spacy`, `.txt` or `.jsonl` file, or a folder of them. Raises CorpusError where it can't be read."""
        self.nlp = nlp
        self.examples = list(TextCorpus(str(path))(nlp))
        _annotate(nlp, self.examples)
        self.said: dict[str, list[set[Statement]]] = {}
        for name, pipe in nlp.pipeline:
            if reading := find_reading(pipe):
                self.said[name] = [set(reading.read(pipe, doc)) for doc in self.docs]

    def drop_vectors(self) -> None:
        """Forget the hidden states on the Docs, which would fill the memory. A scorer that runs its component again, as that of
        entity_linker does, needs them."""
        for doc in self.docs:
            doc.tensor = doc.tensor[:0]
            doc.user_data.clear()

    @property
    def docs(self) -> list[Doc]:
        return [example.predicted for example in self.examples]

    @property
    def texts(self) -> list[str]:
        return texts_with_questions(self.nlp, self.examples)


def texts_with_questions(nlp: Language, examples: Sequence[Example]) -> list[str]:
    """The texts of a corpus, with its questions where the pipeline answers some."""
    if not answers_questions(nlp):
        return [example.reference.text for example in examples]
    references = [example.reference for example in examples]
    return [AskedText.of(doc.text, texts_of(doc._.questions)) for doc in references]


def answers_questions(nlp: Language) -> bool:
    return any(isinstance(pipe, QuestionAnswering) for _, pipe in nlp.pipeline)


def _annotate(nlp: Language, examples: Sequence[Example]) -> None:
    """Where the pipeline links entities and finds none itself, as spaCy trains linkers, it gets those of the corpus; where it
    answers questions, the corpus's questions."""
    if answers_questions(nlp):
        for example in examples:
            example.predicted._.questions = texts_of(example.reference._.questions)
    assigned = {what for name in nlp.pipe_names for what in nlp.get_pipe_meta(name).assigns}
    if "token.ent_kb_id" in assigned and "doc.ents" not in assigned:
        for example in examples:
            example.predicted.ents = example.get_aligned_ents_and_ner()[0]
    docs = nlp.pipe([example.predicted for example in examples])
    for example, doc in zip(examples, docs, strict=True):
        example.predicted = doc
