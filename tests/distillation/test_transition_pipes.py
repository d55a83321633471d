"""parser, and parser and ner with a beam: what they learn beside what `test_pipes` shows of ner."""

import random
from copy import deepcopy

import numpy
import pytest
from spacy.tokens import Doc
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import fix_random_seed

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.errors import LabelError
from spacy_distil.distillation.lessons import Lesson
from spacy_distil.distillation.pipes import transition

from .gradients import assert_finite_differences, assert_gradients_equal, clear, gradients
from .toy import lesson
from .treebank import bare, gold, random_pipeline, transition_model

FACTORIES = ["parser", "beam_parser", "beam_ner"]
CASES = {
    "parser": ("parser", transition_model("parser", True)),
    "parser without upper layer": ("parser", transition_model("parser", False)),
    "parser of more tokens": ("parser", {**transition_model("parser", True), "extra_state_tokens": True}),
    "beam_parser": ("beam_parser", transition_model("parser", True)),
    "beam_ner": ("beam_ner", transition_model("ner", True)),
    "beam_ner without upper layer": ("beam_ner", transition_model("ner", False)),
}


def learn(pipe, examples, lessons=(), *, soft_weight=1.0, gold_weight=0.0, temperature=1.0, drop=0.0):
    """Loss and gradients, the same in each call."""
    clear(pipe)
    fix_random_seed(0)
    loss = transition.update(pipe, lessons, Batch(examples, drop, temperature, soft_weight, gold_weight))
    return loss, gradients(pipe)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("case", CASES)
def test_gradient_of_the_weights_equals_finite_differences(case, temperature):
    factory, model = CASES[case]
    student, teacher = (random_pipeline(factory, seed=seed, model=model) for seed in (1, 2))
    pipe, examples = student.get_pipe("head"), bare(2, seed=3)
    lessons = [lesson(teacher, "head", [eg.x for eg in examples])]

    def loss() -> float:
        fix_random_seed(0)  # a tenth of the hidden values is dropped out whatever the rate
        random.seed(0)
        return transition.update(pipe, lessons, Batch(examples, 0.0, temperature, 1.0, 0.0))

    assert_finite_differences(pipe, loss)


@pytest.mark.parametrize("probability", [0.0, 1.0])
@pytest.mark.parametrize("factory", ["beam_parser", "beam_ner"])
def test_gold_alone_is_exactly_spacys_own_update_with_a_beam(factory, probability):
    pipe = random_pipeline(factory, seed=1, beam_update_prob=probability).get_pipe("head")
    examples = gold(3, seed=3)
    loss, ours = learn(pipe, examples, gold_weight=1.0, drop=0.1)
    clear(pipe)
    fix_random_seed(0)
    losses = {}
    pipe.update(examples, drop=0.1, losses=losses)
    assert_gradients_equal(ours, gradients(pipe))
    assert loss == losses["head"] > 0
    assert type(loss) is float


def test_gold_alone_is_exactly_spacys_own_update_of_the_parser():
    pipe = random_pipeline("parser", seed=1).get_pipe("head")
    examples = gold(3, seed=3)
    loss, ours = learn(pipe, examples, gold_weight=1.0, drop=0.1)
    clear(pipe)
    fix_random_seed(0)
    losses = pipe.update(examples, drop=0.1)
    assert_gradients_equal(ours, gradients(pipe))
    assert loss == pytest.approx(losses["head"])


@pytest.mark.parametrize("factory", FACTORIES)
def test_soft_and_gold_gradients_add_up_by_weight(factory):
    pipe = random_pipeline(factory, seed=1, update_with_oracle_cut_size=0).get_pipe("head")
    examples = gold(2, seed=3)
    lessons = [lesson(random_pipeline(factory, seed=2), "head", [eg.x for eg in examples])]
    soft_loss, soft = learn(pipe, examples, lessons)
    gold_loss, hard = learn(pipe, examples, lessons, soft_weight=0.0, gold_weight=1.0)
    loss, both = learn(pipe, examples, lessons, soft_weight=0.7, gold_weight=0.2)
    assert gold_loss > 0
    assert loss == pytest.approx(0.7 * soft_loss + 0.2 * gold_loss, rel=1e-5)
    assert_gradients_equal(both, {key: 0.7 * soft[key] + 0.2 * hard[key] for key in both}, tolerance=1e-3)


@pytest.mark.parametrize("factory", FACTORIES)
def test_moves_are_aligned_by_name(factory):
    pipe = random_pipeline(factory, seed=1).get_pipe("head")
    data = {action: dict(labels) for action, labels in pipe.label_data.items()}
    # Labels are sorted by how often they were seen.
    turned = {action: {x: i for i, x in enumerate(sorted(seen, key=seen.get)[::-1])} for action, seen in data.items()}
    teacher, twin = (random_pipeline(factory, seed=2, labels=labels).get_pipe("head") for labels in (data, turned))
    moves, other_moves = transition._moves(teacher), transition._moves(twin)
    assert moves != other_moves
    layer = twin.model.get_ref("upper")
    for name in ("W", "b"):
        layer.set_param(name, layer.get_param(name)[[moves.index(move) for move in other_moves]])
    examples = bare(2, seed=3)
    docs = [eg.x for eg in examples]
    lessons = [Lesson(p, transition.ask(p, docs, [])) for p in (teacher, twin)]
    (loss, straight), (other_loss, other) = (learn(pipe, examples, [part]) for part in lessons)
    assert loss == pytest.approx(other_loss, rel=1e-4)
    assert_gradients_equal(straight, other, tolerance=1e-3)


def test_other_moves_are_an_error_that_names_them():
    student = random_pipeline("parser", seed=1).get_pipe("head")
    labels = deepcopy(dict(student.label_data))
    labels[2]["obl:agent"] = 1
    teacher = random_pipeline("parser", seed=1, labels=labels).get_pipe("head")
    with pytest.raises(LabelError, match="Only the teacher has 'obl:agent'"):
        transition.check(student, teacher)


def test_probabilities_of_two_teachers_are_averaged():
    pipe, examples = random_pipeline("parser", seed=1).get_pipe("head"), bare(1, seed=3)
    one, other = (lesson(random_pipeline("parser", seed=seed), "head", [eg.x for eg in examples]) for seed in (2, 3))
    alone, _ = learn(pipe, examples, [one])
    twice, _ = learn(pipe, examples, [one, one])
    both, _ = learn(pipe, examples, [one, other])
    assert twice == pytest.approx(alone, rel=1e-4)
    assert both < max(alone, learn(pipe, examples, [other])[0])  # the divergence is convex in the teacher


def test_rare_labels_of_the_corpus_are_taken_for_dep():
    """As in spaCy's own update: a parser does not know labels under `min_action_freq`."""
    pipe = random_pipeline("parser", seed=1).get_pipe("head")
    results = []
    for label in ("dep", "orphan"):
        examples = gold(1, seed=3, vocab=pipe.vocab)
        examples[0].reference[0].dep_ = label
        lessons = [lesson(random_pipeline("parser", seed=2), "head", [eg.x for eg in examples])]
        results.append(learn(pipe, examples, lessons, gold_weight=1.0))
    assert results[0][0] == results[1][0]
    assert_gradients_equal(results[0][1], results[1][1])


def test_crossing_arcs_of_the_corpus_are_learnt_beside_the_teacher():
    """The head of "window" is beyond the one of "saw": spaCy lifts it and marks its label."""
    words = ["Alma", "saw", "a", "lamp", "today", "that", "was", "warm"]
    heads = [1, 1, 3, 1, 1, 6, 3, 6]
    deps = ["nsubj", "ROOT", "det", "dobj", "advmod", "nsubj", "relcl", "acomp"]
    vocab = Vocab()
    example = Example(Doc(vocab, words=words), Doc(vocab, words=words, heads=heads, deps=deps))
    crossing = [label for label in example.get_aligned_parse(projectivize=True)[1] if "||" in label]
    assert crossing
    labels = {
        action: dict(known) for action, known in random_pipeline("parser", seed=1).get_pipe("head").label_data.items()
    }
    for label in {*deps, *crossing}:
        labels[2].setdefault(label, 1)
        labels[3].setdefault(label, 1)
    pipe, teacher = (random_pipeline("parser", seed=seed, labels=labels) for seed in (1, 2))
    pipe = pipe.get_pipe("head")
    loss, found = learn(pipe, [example], [lesson(teacher, "head", [example.x])], gold_weight=1.0)
    assert numpy.isfinite(loss)
    assert any(gradient.any() for gradient in found.values())


@pytest.mark.parametrize("factory", ["parser", "ner"])
def test_documents_without_tokens_change_nothing(factory):
    pipe = random_pipeline(factory, seed=1).get_pipe("head")
    teacher = random_pipeline(factory, seed=2)
    vocab = Vocab()
    empty = Example(Doc(vocab), Doc(vocab))
    examples = gold(2, seed=3, vocab=vocab)
    results = []
    for batch in (examples, [empty, examples[0], empty, examples[1]]):
        results.append(learn(pipe, batch, [lesson(teacher, "head", [eg.x for eg in batch])], gold_weight=1.0))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    assert_gradients_equal(results[0][1], results[1][1], tolerance=1e-3)
    assert learn(pipe, [empty], [lesson(teacher, "head", [empty.x])], gold_weight=1.0)[0] == 0.0
