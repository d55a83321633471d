"""spancat, spancat_singlelabel and span_finder: what each learns, and from what."""

import numpy
import pytest
from spacy.tokens import Doc
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import fix_random_seed

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.errors import LabelError
from spacy_distil.distillation.heads import Head, find_head
from spacy_distil.distillation.lessons import Lesson
from spacy_distil.distillation.losses import sigmoid, softmax
from spacy_distil.distillation.pipes import find_distiller, span_finder, spancat

from .gradients import assert_finite_differences, assert_gradients_equal, gradients
from .toy import lesson
from .treebank import bare, blank_pipeline, gold, random_pipeline, spancat_model

FACTORIES = ["spancat", "spancat_singlelabel", "span_finder"]
SPANCATS = ["spancat", "spancat_singlelabel"]


def taught(pipe, teachers, examples):
    """A lesson from each teacher, who looks at the spans that the student suggests."""
    premises = find_distiller(pipe).premises
    given = premises(pipe, examples) if premises else None
    return [lesson(teacher, "head", [eg.x for eg in examples], given) for teacher in teachers]


def learn(factory, examples, teachers=(), *, soft_weight=1.0, gold_weight=0.0, temperature=1.0, drop=0.0, **settings):
    """A student's loss and gradients."""
    pipe = random_pipeline(factory, seed=1, **settings).get_pipe("head")
    lessons = taught(pipe, teachers, examples)
    fix_random_seed(0)
    batch = Batch(examples, drop, temperature, soft_weight, gold_weight)
    return find_distiller(pipe).update(pipe, lessons, batch), gradients(pipe)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("factory", FACTORIES)
def test_gradient_of_the_weights_equals_finite_differences(factory, temperature):
    pipe = random_pipeline(factory, seed=1).get_pipe("head")
    examples = bare(2, seed=3)
    lessons = taught(pipe, [random_pipeline(factory, seed=2)], examples)
    batch = Batch(examples, drop=0.0, temperature=temperature, soft_weight=1.0, gold_weight=0.0)
    assert_finite_differences(pipe, lambda: find_distiller(pipe).update(pipe, lessons, batch))


@pytest.mark.parametrize("factory", FACTORIES)
def test_gold_alone_is_exactly_spacys_own_update(factory):
    pipe = random_pipeline(factory, seed=1).get_pipe("head")
    examples = gold(3, seed=3)
    loss, ours = learn(factory, examples, gold_weight=1.0, drop=0.1)
    fix_random_seed(0)
    losses = pipe.update(examples, drop=0.1, sgd=None)
    assert_gradients_equal(ours, gradients(pipe))
    assert loss == losses["head"] > 0
    assert type(loss) is float


@pytest.mark.parametrize("factory", FACTORIES)
def test_soft_and_gold_gradients_add_up_by_weight(factory):
    teachers = [random_pipeline(factory, seed=2)]
    examples = gold(2, seed=3)
    soft_loss, soft = learn(factory, examples, teachers)
    gold_loss, hard = learn(factory, examples, gold_weight=1.0)
    loss, both = learn(factory, examples, teachers, soft_weight=0.7, gold_weight=0.2)
    assert loss == pytest.approx(0.7 * soft_loss + 0.2 * gold_loss, rel=1e-5)
    assert_gradients_equal(both, {key: 0.7 * soft[key] + 0.2 * hard[key] for key in both}, tolerance=1e-4)


@pytest.mark.parametrize("factory", FACTORIES)
def test_document_without_the_span_group_gives_no_gold(factory):
    annotated, rest = gold(2, seed=3), bare(2, seed=4)
    mixed = [rest[0], annotated[0], rest[1], annotated[1]]
    loss, both = learn(factory, mixed, gold_weight=1.0)
    alone_loss, alone = learn(factory, annotated, gold_weight=1.0)
    assert loss == pytest.approx(alone_loss, rel=1e-5)
    assert_gradients_equal(both, alone, tolerance=1e-4)
    assert learn(factory, rest, gold_weight=1.0) == (0.0, {})


@pytest.mark.parametrize("factory", SPANCATS)
def test_columns_are_aligned_by_name(factory):
    teacher, twin = random_pipeline(factory, seed=2), random_pipeline(factory, seed=2)
    pipe = twin.get_pipe("head")
    pipe.cfg["labels"] = pipe.cfg["labels"][::-1]
    turned = [1, 0, 2] if pipe.add_negative_label else [1, 0]  # the negative column stays the last
    layer = next(node for node in pipe.model.walk() if node.name in ("softmax", "linear"))
    for name in ("W", "b"):
        layer.set_param(name, layer.get_param(name)[turned])
    examples = bare(2, seed=3)
    loss, straight = learn(factory, examples, [teacher])
    other_loss, other = learn(factory, examples, [twin])
    assert loss == pytest.approx(other_loss, rel=1e-5)
    assert_gradients_equal(straight, other, tolerance=1e-4)


@pytest.mark.parametrize("factory", FACTORIES)
def test_probabilities_of_two_teachers_are_averaged(factory):
    pipe = random_pipeline(factory, seed=1).get_pipe("head")
    examples = bare(2, seed=3)
    lessons = taught(pipe, [random_pipeline(factory, seed=seed) for seed in (2, 3)], examples)
    exclusive = factory == "spancat_singlelabel"
    mean = []
    for one, other in zip(lessons[0].answers, lessons[1].answers, strict=True):
        p = sum((softmax if exclusive else sigmoid)(answer["logits"]) for answer in (one, other)) / 2
        mean.append({"logits": numpy.log(p) if exclusive else numpy.log(p) - numpy.log1p(-p)})
    results = []
    for part in (lessons, [Lesson(lessons[0].teacher, mean)]):
        pipe = random_pipeline(factory, seed=1).get_pipe("head")
        loss = find_distiller(pipe).update(pipe, part, Batch(examples, 0.0, 2.0, 1.0, 0.0))
        results.append((loss, gradients(pipe)))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-4)
    assert_gradients_equal(results[0][1], results[1][1], tolerance=1e-4)


@pytest.mark.parametrize("factory", FACTORIES)
def test_documents_without_tokens_change_nothing(factory):
    teacher = random_pipeline(factory, seed=2)
    empty = Example(Doc(Vocab()), Doc(Vocab()))
    empty.reference.spans["sc"] = []
    examples = gold(2, seed=3)
    plain = learn(factory, examples, [teacher], gold_weight=1.0)
    padded = learn(factory, [empty, examples[0], empty, examples[1]], [teacher], gold_weight=1.0)
    assert padded[0] == pytest.approx(plain[0], rel=1e-5)
    assert_gradients_equal(padded[1], plain[1], tolerance=1e-4)
    assert learn(factory, [empty], [teacher], gold_weight=1.0) == (0.0, {})


@pytest.mark.parametrize("factory", SPANCATS)
def test_document_without_suggested_spans_changes_nothing(factory):
    """The suggester here proposes spans of ten tokens only."""
    suggester = {"@misc": "spacy.ngram_suggester.v1", "sizes": [10]}
    teacher = random_pipeline(factory, seed=2)
    short = Example(Doc(Vocab(), words=["Lyra"]), Doc(Vocab(), words=["Lyra"]))
    short.reference.spans["sc"] = []
    examples = gold(2, seed=3)
    plain = learn(factory, examples, [teacher], gold_weight=1.0, suggester=suggester)
    padded = learn(factory, [short, examples[0], short, examples[1]], [teacher], gold_weight=1.0, suggester=suggester)
    assert padded[0] == pytest.approx(plain[0], rel=1e-5)
    assert_gradients_equal(padded[1], plain[1], tolerance=1e-4)
    assert learn(factory, [short], [teacher], gold_weight=1.0, suggester=suggester) == (0.0, {})


@pytest.mark.parametrize("factory", SPANCATS)
def test_teacher_scores_the_spans_that_the_student_suggests(factory):
    student = random_pipeline(factory, seed=1, suggester={"@misc": "spacy.ngram_suggester.v1", "sizes": [3]})
    teacher = random_pipeline(factory, seed=2)
    examples = bare(2, seed=3)
    pipe, docs = student.get_pipe("head"), [eg.x for eg in examples]
    (spans, _), premises = pipe.predict(docs), spancat.premises(pipe, examples)
    for i, given in enumerate(premises):
        numpy.testing.assert_array_equal(given, spans[i].dataXd)
    answers = spancat.ask(teacher.get_pipe("head"), docs, premises)
    assert [answer["logits"].shape for answer in answers] == [
        (len(doc) - 2, 3 if factory == "spancat_singlelabel" else 2) for doc in docs
    ]
    twin = teacher.get_pipe("head")
    twin.suggester = pipe.suggester
    scores = numpy.concatenate([answer["logits"] for answer in answers])
    expected = softmax(scores) if factory == "spancat_singlelabel" else sigmoid(scores)
    numpy.testing.assert_allclose(twin.predict(docs)[1], expected, atol=1e-5)


def test_single_label_has_a_column_for_none():
    pipe = blank_pipeline("spancat_singlelabel").get_pipe("head")
    assert find_head(pipe.model, "head") is Head.SOFTMAX
    independent = blank_pipeline("spancat").get_pipe("head")
    with pytest.raises(LabelError, match=r"exclusive classes.*independent labels"):
        spancat.check(pipe, independent)
    without = blank_pipeline("spancat", model=spancat_model("Softmax.v2")).get_pipe("head")
    with pytest.raises(LabelError, match=r"Only the student has '\(no label\)'"):
        spancat.check(pipe, without)


def test_other_labels_are_an_error_that_names_them():
    student = blank_pipeline("spancat", labels=["MINE"]).get_pipe("head")
    teacher = blank_pipeline("spancat", labels=["THEIRS"]).get_pipe("head")
    with pytest.raises(LabelError, match=r"(?s)'MINE'.*'THEIRS'"):
        spancat.check(student, teacher)


def test_unknown_gold_label_is_an_error_that_names_it():
    examples = gold(1, seed=3)
    reference = examples[0].reference
    reference.spans["sc"] = [reference.char_span(0, len(reference[0]), label="MARTIAN")]
    with pytest.raises(LabelError, match="'MARTIAN'"):
        learn("spancat", examples, gold_weight=1.0)


def test_span_finders_look_for_starts_and_ends():
    pipes = [random_pipeline("span_finder", seed=seed).get_pipe("head") for seed in (1, 2)]
    span_finder.check(*pipes)
    docs = [eg.x for eg in bare(2, seed=3)]
    answers = span_finder.ask(pipes[1], docs, [])
    scores = numpy.concatenate([sigmoid(answer["logits"]) for answer in answers])
    numpy.testing.assert_allclose(scores, pipes[1].predict(docs), atol=1e-5)
