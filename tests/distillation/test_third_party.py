"""A component of another package, with a distiller of its own."""

from importlib.metadata import EntryPoint
from types import SimpleNamespace

import numpy
import pytest
import spacy
from spacy.pipeline import TrainablePipe
from thinc.api import Adam, Linear, Model, chain, fix_random_seed, list2ragged, reduce_mean

from spacy_distil.distillation import pipes
from spacy_distil.distillation.components import choose_components
from spacy_distil.distillation.errors import DistillationError, TeacherError
from spacy_distil.distillation.pipes import Distiller, find_distiller

from .toy import attached, examples


class Mood(TrainablePipe):
    """A number for each text."""

    def __init__(self, vocab, model: Model, name: str) -> None:
        self.vocab, self.model, self.name, self.cfg = vocab, model, name, {}


def ask(teacher, docs, premises):
    return [{"mood": row} for row in teacher.model.predict(docs)]


def update(student, lessons, batch):
    if not lessons:
        return 0.0
    moods, backprop = student.model.begin_update(batch.docs)
    wanted = numpy.mean([[answer["mood"] for answer in lesson.answers] for lesson in lessons], axis=0)
    backprop(batch.soft_weight * (moods - wanted))
    return batch.soft_weight * float(((moods - wanted) ** 2).sum()) / 2


DISTILLER = Distiller(Mood, lambda student, teacher: None, ask, update)


@spacy.Language.factory("mood")
def make_mood(nlp: spacy.Language, name: str) -> Mood:
    encoder = spacy.registry.architectures.get("spacy.HashEmbedCNN.v2")
    shape = {"width": 8, "depth": 1, "embed_size": 50, "window_size": 1, "maxout_pieces": 2}
    tok2vec = encoder(**shape, subword_features=False, pretrained_vectors=None)
    return Mood(nlp.vocab, chain(tok2vec, list2ragged(), reduce_mean(), Linear(1, 8)), name)


def build(seed: int) -> spacy.Language:
    fix_random_seed(seed)
    nlp = spacy.blank("en")
    model = nlp.add_pipe("mood").model
    model.initialize([nlp.make_doc("a b c")], numpy.zeros((1, 1), dtype="f"))
    model.layers[-1].set_param("W", numpy.random.default_rng(seed).normal(size=(1, 8)).astype("f"))
    return nlp


@pytest.fixture
def entry_point(monkeypatch):
    def install(value: str) -> None:
        point = EntryPoint(name="mood", value=value, group=pipes.ENTRY_POINTS)
        found = {pipes.ENTRY_POINTS: (point,)}
        monkeypatch.setattr(pipes, "entry_points", lambda group: found[group])
        pipes.of_other_packages.cache_clear()

    yield install
    pipes.of_other_packages.cache_clear()


def test_it_learns_from_its_counterpart(entry_point):
    entry_point(f"{__name__}:DISTILLER")
    student, teacher = build(0), build(3)
    assert choose_components(student, [teacher]) == {"mood": [0]}
    student.update = attached(student, teacher, components=("mood",))  # type: ignore[method-assign]
    losses = [student.update(examples(8, seed=1, vocab=student.vocab), sgd=Adam(0.01))["mood"] for _ in range(40)]
    assert losses[-1] < 0.1 * losses[0]


def test_without_its_package_it_can_not_be_taught():
    assert find_distiller(build(0).get_pipe("mood")) is None
    with pytest.raises(TeacherError, match="Nothing to distil"):
        choose_components(build(0), [build(3)])


def test_entry_point_that_is_no_distiller_is_an_error(entry_point):
    entry_point(f"{__name__}:build")
    with pytest.raises(DistillationError, match="'mood' of the group spacy_distil_distillers"):
        find_distiller(SimpleNamespace())
