"""What a distiller sees of one update."""

from dataclasses import dataclass

from spacy.tokens import Doc
from spacy.training import Example

from spacy_distil.distillation.hidden_states.teaching import HiddenTeaching


@dataclass(frozen=True)
class Batch:
    """One batch of an update, for one component.

    examples: the student's documents (`predicted`) and what the corpus says of them (`reference`), which may be nothing.
    drop: dropout rate of the student.
    temperature: see `losses.softmax_kl`.
    soft_weight, gold_weight: factors of the two gradients and losses.
    states_weight: the same of the distance between hidden states, of a component whose encoder is its own.
    hidden: what measures that distance; None: nothing does.
    """

    examples: list[Example]
    drop: float
    temperature: float
    soft_weight: float
    gold_weight: float
    states_weight: float = 0.0
    hidden: HiddenTeaching | None = None

    @property
    def docs(self) -> list[Doc]:
        """The student's documents."""
        return [example.predicted for example in self.examples]
