"""The update that replaces `Language.update` in the training loop."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy
from spacy.errors import Errors
from spacy.language import Language, _copy_examples
from spacy.pipeline import Tok2Vec
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from spacy.ty import TrainableComponent
from spacy.util import _pipe
from thinc.api import Optimizer

from spacy_distil.distillation.agreement import stock_method
from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.hidden_states.teaching import HiddenTeaching
from spacy_distil.distillation.lessons import Answer, Array, Lesson
from spacy_distil.distillation.pipes import Distiller, find_distiller
from spacy_distil.distillation.pipes.encoder import EncoderPass
from spacy_distil.distillation.settings import Settings
from spacy_distil.distillation.teacher import Ask, Hearing, Teacher

HIDDEN = "hidden_states"
"""Their loss, among those of the components."""


class DistillationUpdate:
    """Replaces `Language.update` on one instance. Components that the teacher has learn from it and from gold labels, all
    others from gold labels alone.

    nlp: the student.
    teachers: the teachers.
    taught: the components that are taught, each with the numbers of its teachers.
    settings: the config's block.
    hidden: the loss between hidden states, from the first teacher's encoder; None for none.
    states: the same of components that have an encoder of their own, by name.
    step: the step of the optimiser, by which schedules are read, set by a loop that counts it. None: counted from the calls,
        `accumulate_gradient` to a step.
    block: the config's block as it is written, which has to be the same for a run to be resumed.
    """

    def __init__(
        self,
        nlp: Language,
        teachers: Sequence[Teacher],
        taught: Mapping[str, Sequence[int]],
        settings: Settings,
        hidden: HiddenTeaching | None = None,
        states: Mapping[str, HiddenTeaching] | None = None,
    ) -> None:
        self.nlp = nlp
        self.teachers = list(teachers)
        self.taught = dict(taught)
        self.settings = settings
        self.hidden = hidden
        self.states = dict(states or {})
        self.step: int | None = None
        self.block: Mapping[str, Any] = {}
        self._n_calls = 0
        self._accumulated = max(1, nlp.config.interpolate()["training"].get("accumulate_gradient") or 1)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy or a pickle of the student is a plain pipeline with spaCy's own update: the teacher stays here."""
        return stock_method, (self.nlp, "update")

    def __call__(
        self,
        examples: Iterable[Example],
        _: Any | None = None,
        *,
        drop: float = 0.0,
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
        component_cfg: dict[str, dict[str, Any]] | None = None,
        exclude: Iterable[str] = (),
        annotates: Iterable[str] = (),
    ) -> dict[str, float]:
        """Update the student's components; arguments are those of `Language.update`.

        sgd: the optimiser. None takes the pipeline's own, False leaves the gradients for a later `finish_update`.
        RETURNS: losses by component, Python floats, added to those given. A taught component's is the weighted sum of its
            soft and gold losses; that of hidden states stands beside them as `hidden_states`.
        RAISES: DistillationError if a loss is not a number: no weight has been changed then.
        """
        if _ is not None:
            raise ValueError(Errors.E989)
        losses = {} if losses is None else losses
        examples = list(examples)
        if sgd is None:
            if self.nlp._optimizer is None:
                self.nlp._optimizer = self.nlp.create_optimizer()
            sgd = self.nlp._optimizer
        learning: dict[str, Any] = {
            name: pipe for name, pipe in self.nlp.pipeline if name not in exclude and hasattr(pipe, "update")
        }
        for name in learning:
            losses.setdefault(name, 0.0)
        if not any(len(example.predicted) for example in examples):
            return losses
        validate_examples(examples, "DistillationUpdate")
        examples = _copy_examples(examples)
        hearings = self._hearings(examples)
        step = self._n_calls // self._accumulated if self.step is None else self.step
        self._n_calls += 1
        passes: dict[str, EncoderPass] = {}
        pipe: Any
        for name, pipe in self.nlp.pipeline:
            settings = {"drop": drop, **(component_cfg or {}).get(name, {})}
            if name in learning:
                if isinstance(pipe, Tok2Vec):
                    passes[name] = self._encode(pipe, examples, hearings, step, losses, **settings)
                elif find_distiller(pipe) is not None:
                    losses[name] += self._distil(name, pipe, examples, hearings, step, **settings)
                else:
                    pipe.update(examples, sgd=None, losses=losses, **settings)
                _check_loss(name, losses, examples)
            if name in annotates:
                docs = (example.predicted for example in examples)
                settings = {"batch_size": self.nlp.batch_size, **(component_cfg or {}).get(name, {})}
                annotated = _pipe(docs, pipe, name, self.nlp.default_error_handler, settings)
                for example, doc in zip(examples, annotated, strict=True):
                    example.predicted = doc
        for name in reversed(passes):  # an encoder may listen to an earlier one
            passes[name].backprop()
            _check_loss(name, losses, examples)
        if sgd:
            for pipe in learning.values():
                if isinstance(pipe, TrainableComponent) and pipe.is_trainable and pipe.model not in (True, False, None):
                    pipe.finish_update(sgd)
        return losses

    def _encode(
        self,
        encoder: Tok2Vec,
        examples: list[Example],
        hearings: Sequence[Hearing],
        step: int,
        losses: dict[str, float],
        *,
        drop: float,
    ) -> EncoderPass:
        hidden = self.hidden if self.hidden is not None and encoder.name == self.hidden.student else None
        weight = 0.0 if hidden is None else self.settings.hidden.weight.at(step)
        if hidden is None or not weight:
            return EncoderPass(encoder, examples, drop=drop, losses=losses)
        encoding = EncoderPass(encoder, examples, drop=drop, losses=losses, layers=hidden.student_layers)
        if encoding.states is not None:
            loss, gradient = hidden(encoding.states, hearings[0])
            encoding.add(weight * gradient)
            losses[HIDDEN] = losses.get(HIDDEN, 0.0) + weight * loss
            _check_loss(HIDDEN, losses, examples)
        return encoding

    def state_dict(self) -> dict[str, numpy.ndarray]:
        """What training has learnt beside the student's weights."""
        named = self._teachings()
        return {f"{name}/{key}": value for name in named for key, value in named[name].state_dict().items()}

    def load_state_dict(self, state: Mapping[str, numpy.ndarray]) -> None:
        for name, teaching in self._teachings().items():
            start = f"{name}/"
            teaching.load_state_dict({key[len(start) :]: state[key] for key in state if key.startswith(start)})

    def _teachings(self) -> dict[str, HiddenTeaching]:
        shared = {} if self.hidden is None else {self.hidden.student: self.hidden}
        return {**shared, **self.states}

    def ask_all(self, examples: Sequence[Example]) -> None:
        """Ask the teachers all that an update on these examples asks them, and leave it at that."""
        hearings = self._hearings(examples)
        for name in self.taught:
            self._lessons(name, examples, hearings)
        if self.hidden is not None:
            self.hidden.ask(hearings[0])

    def _distil(
        self, name: str, student: Any, examples: list[Example], hearings: Sequence[Hearing], step: int, *, drop: float
    ) -> float:
        weights, is_taught = self.settings.weights_of(name), name in self.taught
        soft_weight = weights.soft_weight.at(step) if is_taught else 0.0
        batch = Batch(
            examples=examples,
            drop=drop,
            temperature=weights.temperature.at(step),
            soft_weight=soft_weight,
            gold_weight=weights.gold_weight.at(step) if is_taught else 1.0,
            states_weight=weights.states_weight.at(step) if is_taught else 0.0,
            hidden=self.states.get(name),
        )
        distiller = find_distiller(student)
        assert distiller is not None
        has_lesson = bool(soft_weight or batch.states_weight)
        return distiller.update(student, self._lessons(name, examples, hearings) if has_lesson else [], batch)

    def _hearings(self, examples: Sequence[Example]) -> list[Hearing]:
        return [teacher.hear([example.predicted for example in examples]) for teacher in self.teachers]

    def _lessons(self, name: str, examples: Sequence[Example], hearings: Sequence[Hearing]) -> list[Lesson]:
        student: Any = self.nlp.get_pipe(name)
        distiller = find_distiller(student)
        assert distiller is not None
        premises = distiller.premises(student, examples) if distiller.premises else None
        lessons: list[Lesson] = []
        for hearing in (hearings[number] for number in self.taught[name]):
            ask, question = distiller.ask, "scores"
            if name in self.states and not lessons:  # the first teacher's states
                ask, question = _asking_states(distiller, self.states[name].teacher_layers)
            answers = hearing.ask(name, ask, premises, question=question)
            lessons.append(Lesson(hearing.teacher.nlp.get_pipe(name), answers))
        return lessons


def _asking_states(distiller: Distiller, layers: Sequence[int]) -> tuple[Ask, str]:
    """What asks for the hidden states of these layers beside the scores, and the name of that question."""
    ask_states = distiller.ask_states
    assert ask_states is not None

    def ask(teacher: Any, docs: Sequence[Doc], premises: Sequence[Array]) -> list[Answer]:
        return ask_states(teacher, docs, premises, layers)

    return ask, f"states of layers {layers}"


def _check_loss(name: str, losses: dict[str, float], examples: Sequence[Example]) -> None:
    losses[name] = float(losses[name])
    if not math.isfinite(losses[name]):
        of = "the hidden states" if name == HIDDEN else f"component '{name}'"
        texts = "; ".join(repr(example.predicted[:6].text) for example in examples[:4])
        raise DistillationError(
            f"The loss of {of} is {losses[name]}: training stops before this batch changes a weight. Lower the learning "
            "rate or the weights of the losses, and look for NaN in the weights that the encoder started from. The batch has "
            f"{len(examples)} texts, which begin: {texts}."
        )
