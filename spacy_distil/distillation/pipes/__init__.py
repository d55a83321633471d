"""How each family of components learns from its counterpart in a teacher: one file a family.

A distiller adds up the soft gradient and, where the corpus has annotation, the gold one *before* its single backward pass.
Another package adds distillers for its own components by the entry-point group `spacy_distil_distillers`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from spacy.pipeline import (
    DependencyParser,
    EditTreeLemmatizer,
    EntityLinker,
    EntityRecognizer,
    SpanCategorizer,
    Tagger,
    TextCategorizer,
)
from spacy.pipeline.span_finder import SpanFinder
from spacy.tokens import Doc
from spacy.training import Example

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.lessons import Answer, Array, Lesson
from spacy_distil.distillation.pipes import (
    linker,
    masked_lm,
    question_answering,
    seq2seq,
    span_finder,
    spancat,
    summarizer,
    textcat,
    tokens,
    transition,
)
from spacy_distil.encoder.shim import DistilBertShim
from spacy_distil.pipeline.generation.component import Seq2Seq
from spacy_distil.pipeline.masked_lm.component import MaskedLanguageModel
from spacy_distil.pipeline.question_answering.component import QuestionAnswering
from spacy_distil.pipeline.summarization.component import Summarizer

ENTRY_POINTS = "spacy_distil_distillers"


@dataclass(frozen=True)
class Distiller:
    """What a family of components needs to know.

    component: the class of the components; it stands for its subclasses too, unless they have a distiller of their own.
    check: takes the student's component and the teacher's, and raises a LabelError or DistillationError if the one can't
        learn from the other. Runs before any work.
    ask: takes the teacher's component, documents that the components which it builds on have annotated, and the premises;
        gives an answer for each document. No gradient, and nothing that depends on the student but the premises.
    update: takes the student's component, a lesson from each teacher, and a batch; runs one forward and at most one
        backward pass and gives the weighted loss. The optimiser's step is the caller's. No lessons: gold labels alone.
    premises: takes the student's component and examples; gives for each an array of integers with all that an answer
        depends on beside the document's tokens, such as suggested spans. None: nothing.
    encoder: gives the encoder that is the component's own, whose hidden states learn from those of the teacher's. None: it has
        none, or they are not compared.
    ask_states: as `ask`, with these states of the layers that it takes as its last argument; asked in the place of `ask` where
        `states_weight` is not 0.
    """

    component: type
    check: Callable[[Any, Any], None]
    ask: Callable[[Any, Sequence[Doc], Sequence[Array]], list[Answer]]
    update: Callable[[Any, Sequence[Lesson], Batch], float]
    premises: Callable[[Any, Sequence[Example]], list[Array]] | None = None
    encoder: Callable[[Any], DistilBertShim] | None = None
    ask_states: Callable[[Any, Sequence[Doc], Sequence[Array], Sequence[int]], list[Answer]] | None = None


DISTILLERS = (
    Distiller(DependencyParser, transition.check, transition.ask, transition.update),
    Distiller(EntityRecognizer, transition.check, transition.ask, transition.update),
    Distiller(TextCategorizer, textcat.check, textcat.ask, textcat.update),
    Distiller(Tagger, tokens.check, tokens.ask, tokens.update),
    Distiller(EditTreeLemmatizer, tokens.check, tokens.ask, tokens.update),
    Distiller(SpanCategorizer, spancat.check, spancat.ask, spancat.update, spancat.premises),
    Distiller(SpanFinder, span_finder.check, span_finder.ask, span_finder.update),
    Distiller(EntityLinker, linker.check, linker.ask, linker.update, linker.premises),
    Distiller(Summarizer, summarizer.check, summarizer.ask, summarizer.update, summarizer.premises),
    Distiller(Seq2Seq, seq2seq.check, seq2seq.ask, seq2seq.update, seq2seq.premises),
    Distiller(MaskedLanguageModel, masked_lm.check, masked_lm.ask, masked_lm.update, masked_lm.premises),
    Distiller(
        QuestionAnswering,
        question_answering.check,
        question_answering.ask,
        question_answering.update,
        question_answering.premises,
        question_answering.find_encoder,
        question_answering.ask_states,
    ),
)


def find_distiller(pipe: Any) -> Distiller | None:
    """The distiller of the component's class or of the nearest class above it, None if there is none."""
    known = {distiller.component: distiller for distiller in (*DISTILLERS, *of_other_packages())}
    return next((known[base] for base in type(pipe).__mro__ if base in known), None)


@cache
def of_other_packages() -> tuple[Distiller, ...]:
    return tuple(_load(entry_points(group=ENTRY_POINTS)))


def _load(points: Iterable[Any]) -> Iterable[Distiller]:
    for point in points:
        distiller = point.load()
        if not isinstance(distiller, Distiller):
            raise DistillationError(
                f"The entry point '{point.name}' of the group {ENTRY_POINTS} is {point.value}, which is a "
                f"{type(distiller).__name__} and no Distiller. Mend or uninstall the package that has it."
            )
        yield distiller
