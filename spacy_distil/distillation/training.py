"""The update that replaces `Language.update` in the stock training loop, and how it is attached to a student."""

import math
import re
from collections.abc import Callable, Iterable
from types import MethodType
from typing import Any

import spacy
from spacy.errors import Errors
from spacy.language import Language, _copy_examples
from spacy.pipeline import Tok2Vec
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from spacy.ty import TrainableComponent
from spacy.util import _pipe, logger
from thinc.api import Optimizer

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.components import check_gold, choose_components
from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.pipes import find_distiller
from spacy_distil.distillation.teacher import Teacher, load_teacher

from .pipes.encoder import EncoderPass

CALLBACK = "spacy-distil.attach_teacher.v1"
LABEL_READER = "spacy-distil.TeacherLabels.v1"


@spacy.registry.callbacks(CALLBACK)
def attach_teacher(
    teacher: str,
    temperature: float = 2.0,
    soft_weight: float = 1.0,
    gold_weight: float = 0.5,
    components: list[str] | None = None,
) -> Callable[[Language], None]:
    """A callback for `[initialize.after_init]`: from then on `nlp.update` learns from the teacher.

        [initialize.after_init]
        @callbacks = "spacy-distil.attach_teacher.v1"
        teacher = "teacher/model-best"

    The callback also takes itself and the readers of the teacher's labels out of the student's config, so that what is
    saved holds no trace of the teacher. `del nlp.update` gives the instance spaCy's own update back.

    teacher (str): folder of a trained pipeline, or name of an installed package.
    temperature (float): T of the soft labels of exclusive classes and of moves, above 0. A sharp teacher says more at 2
        than at 1; independent labels are always compared at 1. See `losses`.
    soft_weight (float): factor of the gradient that comes from the teacher, 0 or more.
    gold_weight (float): factor of the gradient that comes from the corpus, where it has annotation, 0 or more. Lower than
        soft_weight by default, as Hinton et al. 2015, section 2, found best. A component that the teacher doesn't teach
        learns from the corpus alone, with weight 1.
    components (Optional[list[str]]): names of the components that the teacher teaches. By default all that both have, that
        can be distilled, and that are not frozen.
    RAISES: DistillationError, at once, if the weights or the temperature make no sense; when the callback runs, before
        training, also TeacherError or LabelError.
    """
    _check_numbers(temperature, soft_weight, gold_weight)

    def after_init(nlp: Language) -> None:
        teacher_nlp = load_teacher(teacher)
        # From here on the update owns the teacher: don't keep it in memory after training.
        load_teacher.cache_clear()
        taught = choose_components(nlp, teacher_nlp, components)
        update = DistillationUpdate(
            nlp,
            Teacher(teacher_nlp, taught),
            temperature=temperature,
            soft_weight=soft_weight,
            gold_weight=gold_weight,
        )
        check_gold(nlp, taught if soft_weight else [])
        forget_teacher(nlp)
        nlp.update = update  # type: ignore[method-assign]
        logger.info("Learning from the teacher: %s", ", ".join(taught))

    return after_init


class DistillationUpdate:
    """Replaces `Language.update` on one instance. Components that the teacher has learn from it and from gold labels, all
    others from gold labels alone.

    nlp: the student.
    teacher: the teacher, and the names of the components that it teaches.
    temperature, soft_weight, gold_weight: see `attach_teacher`.
    """

    def __init__(
        self, nlp: Language, teacher: Teacher, *, temperature: float, soft_weight: float, gold_weight: float
    ) -> None:
        self.nlp = nlp
        self.teacher = teacher
        self.temperature = temperature
        self.soft_weight = soft_weight
        self.gold_weight = gold_weight

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy or a pickle of the student is a plain pipeline with spaCy's own update: the teacher stays here."""
        return _stock_update, (self.nlp,)

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
            soft and gold losses.
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
        teacher_docs = self._annotate(examples, learning)
        passes: dict[str, EncoderPass] = {}
        pipe: Any
        for name, pipe in self.nlp.pipeline:
            settings = {"drop": drop, **(component_cfg or {}).get(name, {})}
            if name in learning:
                if isinstance(pipe, Tok2Vec):
                    passes[name] = EncoderPass(pipe, examples, losses=losses, **settings)
                elif find_distiller(pipe) is not None:
                    losses[name] += self._distil(name, pipe, examples, teacher_docs, **settings)
                else:
                    pipe.update(examples, sgd=None, losses=losses, **settings)
                _check_loss(name, losses)
            if name in annotates:
                docs = (example.predicted for example in examples)
                settings = {"batch_size": self.nlp.batch_size, **(component_cfg or {}).get(name, {})}
                annotated = _pipe(docs, pipe, name, self.nlp.default_error_handler, settings)
                for example, doc in zip(examples, annotated, strict=True):
                    example.predicted = doc
        for name in reversed(passes):  # an encoder may listen to an earlier one
            passes[name].backprop()
            _check_loss(name, losses)
        if sgd:
            for pipe in learning.values():
                if isinstance(pipe, TrainableComponent) and pipe.is_trainable and pipe.model not in (True, False, None):
                    pipe.finish_update(sgd)
        return losses

    def _annotate(self, examples: list[Example], learning: Iterable[str]) -> list[Doc]:
        if not self.soft_weight or not any(name in learning for name in self.teacher.components):
            return []
        return self.teacher.annotate([example.predicted for example in examples])

    def _distil(
        self, name: str, student: Any, examples: list[Example], teacher_docs: list[Doc], *, drop: float
    ) -> float:
        taught = name in self.teacher.components
        batch = Batch(
            examples=examples,
            teacher_docs=teacher_docs,
            drop=drop,
            temperature=self.temperature,
            soft_weight=self.soft_weight,
            gold_weight=self.gold_weight if taught else 1.0,
        )
        teacher = self.teacher.nlp.get_pipe(name) if taught and self.soft_weight else None
        distiller = find_distiller(student)
        assert distiller is not None
        return distiller.update(student, teacher, batch)


def forget_teacher(nlp: Language) -> None:
    """Take the callback and the readers of the teacher's labels out of the config, and the path that they name by a
    variable. They have done their work; a saved student must load, and can be trained on, where there is no teacher."""
    config = nlp.config
    initialize = config.get("initialize", {})
    blocks = []
    if (initialize.get("after_init") or {}).get("@callbacks") == CALLBACK:
        blocks.append(initialize.pop("after_init"))
        initialize["after_init"] = None
    for settings in initialize.get("components", {}).values():
        labels = settings.get("labels")
        if isinstance(labels, dict) and labels.get("@readers") == LABEL_READER:
            blocks.append(settings.pop("labels"))
    for variable in {block["teacher"] for block in blocks}:
        path = re.fullmatch(r"\$\{paths\.(\w+)\}", variable)
        if path and variable not in config.to_str(interpolate=False):
            config["paths"][path[1]] = None


def _check_numbers(temperature: float, soft_weight: float, gold_weight: float) -> None:
    if not 0 < temperature < math.inf:
        raise DistillationError(
            f"temperature = {temperature}: it must be above 0. 1 leaves the teacher's scores as they are."
        )
    for name, weight in (("soft_weight", soft_weight), ("gold_weight", gold_weight)):
        if not 0 <= weight < math.inf:
            raise DistillationError(f"{name} = {weight}: it must be 0 or more, and finite.")
    if soft_weight + gold_weight == 0:
        raise DistillationError(
            "soft_weight and gold_weight are both 0, so that nothing can be learnt. Give one of them a weight."
        )


def _check_loss(name: str, losses: dict[str, float]) -> None:
    losses[name] = float(losses[name])
    if not math.isfinite(losses[name]):
        raise DistillationError(
            f"The loss of component '{name}' is {losses[name]}: training stops before this batch changes a weight. Lower the "
            "learning rate or the weights of the losses, and look for NaN in the weights that the encoder started from."
        )


def _stock_update(nlp: Language) -> MethodType:
    return MethodType(type(nlp).update, nlp)
