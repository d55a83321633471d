"""entity_linker: what it learns, and from what."""

import numpy
import pytest
from spacy.tokens import Doc, Span
from spacy.training import Example
from thinc.api import fix_random_seed

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.lessons import Lesson
from spacy_distil.distillation.pipes import linker

from .gradients import assert_finite_differences, assert_gradients_equal, clear, gradients
from .toy import lesson
from .treebank import bare, blank_pipeline, gold, random_pipeline


@pytest.fixture
def student():
    return random_pipeline("entity_linker", seed=1).get_pipe("head")


@pytest.fixture
def teacher():
    return random_pipeline("entity_linker", seed=2)


def taught(student, teachers, examples):
    premises = linker.premises(student, examples)
    return [lesson(teacher, "head", [eg.x for eg in examples], premises) for teacher in teachers]


def learn(student, examples, teachers=(), *, soft_weight=1.0, gold_weight=0.0, temperature=1.0, drop=0.0):
    """Loss and gradients, the same in each call."""
    clear(student)
    lessons = taught(student, teachers, examples)
    fix_random_seed(0)
    batch = Batch(examples, drop, temperature, soft_weight, gold_weight)
    return linker.update(student, lessons, batch), gradients(student)


def with_entities(examples):
    """Nothing in the corpus, and the entities that an `ner` has set on the student's documents."""
    for eg in examples:
        eg.predicted.ents = [Span(eg.x, ent.start, ent.end, ent.label_) for ent in eg.reference.ents]
    return [Example(eg.predicted, Doc(eg.x.vocab, words=[token.text for token in eg.x])) for eg in examples]


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_gradient_of_the_weights_equals_finite_differences(temperature, student, teacher):
    examples = gold(2, seed=3, vocab=student.vocab)
    lessons = taught(student, [teacher], examples)
    assert_finite_differences(
        student, lambda: linker.update(student, lessons, Batch(examples, 0.0, temperature, 1.0, 0.0))
    )


def test_gold_alone_is_exactly_spacys_own_update(student):
    examples = gold(3, seed=3, vocab=student.vocab)
    loss, ours = learn(student, examples, gold_weight=1.0, drop=0.1)
    clear(student)
    fix_random_seed(0)
    losses = student.update(examples, drop=0.1)
    assert_gradients_equal(ours, gradients(student))
    assert loss == losses["head"] > 0
    assert type(loss) is float


def test_soft_and_gold_gradients_add_up_by_weight(student, teacher):
    examples = gold(2, seed=3, vocab=student.vocab)
    soft_loss, soft = learn(student, examples, [teacher])
    gold_loss, hard = learn(student, examples, gold_weight=1.0)
    loss, both = learn(student, examples, [teacher], soft_weight=0.7, gold_weight=0.2)
    assert loss == pytest.approx(0.7 * soft_loss + 0.2 * gold_loss, rel=1e-5)
    assert_gradients_equal(both, {key: 0.7 * soft[key] + 0.2 * hard[key] for key in both}, tolerance=1e-5)


def test_teacher_encodes_the_students_entities_in_the_students_sentences(student, teacher):
    examples = gold(2, seed=3, vocab=student.vocab)
    docs = [eg.x for eg in examples]
    for doc in docs:
        for token in doc:
            token.is_sent_start = token.i in (0, 5)
    premises = linker.premises(student, examples)
    pipe = teacher.get_pipe("head")
    own = [Doc(teacher.vocab, words=[token.text for token in doc]) for doc in docs]
    own[0].ents = [Span(own[0], 0, 3, "OTHER")]
    own[0][2].is_sent_start = True
    before = [doc.to_array(linker.CONTEXT) for doc in own]
    answers = linker.ask(pipe, own, premises)
    for eg in examples:
        eg.predicted.ents = eg.get_aligned_ents_and_ner()[0]
    expected = pipe.model.predict(docs)
    numpy.testing.assert_allclose(numpy.concatenate([a["encodings"] for a in answers]), expected, atol=1e-6)
    assert [len(a["encodings"]) for a in answers] == [len(doc.ents) for doc in docs]
    for doc, context in zip(own, before, strict=True):  # they are as before for the next component
        numpy.testing.assert_array_equal(doc.to_array(linker.CONTEXT), context)


def test_entities_are_the_corpus_s_or_those_that_a_component_has_set(student, teacher):
    annotated, rest = gold(1, seed=3, vocab=student.vocab), with_entities(gold(1, seed=4, vocab=student.vocab))
    annotated[0].predicted.ents = [Span(annotated[0].x, 0, 1, "WRONG")]
    counts = [len(answer["encodings"]) for answer in taught(student, [teacher], annotated + rest)[0].answers]
    assert counts == [len(annotated[0].y.ents), len(rest[0].x.ents)]
    student.use_gold_ents = False
    counts = [len(answer["encodings"]) for answer in taught(student, [teacher], annotated + rest)[0].answers]
    assert counts == [1, len(rest[0].x.ents)]
    assert len(annotated[0].predicted.ents) == 1


def test_unlabelled_text_teaches_alone(student, teacher):
    examples = with_entities(gold(2, seed=3, vocab=student.vocab))
    loss, soft = learn(student, examples, [teacher])
    both_loss, both = learn(student, examples, [teacher], gold_weight=1.0)
    assert loss == both_loss > 0
    assert_gradients_equal(soft, both)
    clear(student)
    assert learn(student, examples, gold_weight=1.0)[0] == 0.0


def test_predicted_entity_that_the_corpus_lacks_gets_no_gold(student, teacher):
    """spaCy takes the rows of its own entities for those of the corpus, however many they are."""
    student.use_gold_ents = False
    examples = gold(1, seed=3, vocab=student.vocab)
    for token in examples[0].x:
        token.is_sent_start = True  # no two entities share a context
    right = examples[0].get_aligned_ents_and_ner()[0]
    examples[0].predicted.ents = right
    _, expected = learn(student, examples, gold_weight=1.0)
    verb = right[0].end
    examples[0].predicted.ents = [Span(examples[0].x, verb, verb + 1, "WRONG"), *right]
    _, found = learn(student, examples, gold_weight=1.0)
    assert_gradients_equal(found, expected, tolerance=1e-5)


def test_directions_of_two_teachers_are_averaged(student, teacher):
    examples = gold(2, seed=3, vocab=student.vocab)
    teachers = [teacher, random_pipeline("entity_linker", seed=3)]
    one, other = taught(student, teachers, examples)
    mean = []
    for answers in zip(one.answers, other.answers, strict=True):
        rows = [answer["encodings"] for answer in answers]
        mean.append({"encodings": sum(r / numpy.linalg.norm(r, axis=1, keepdims=True) for r in rows)})
    clear(student)
    expected_loss = linker.update(student, [Lesson(one.teacher, mean)], Batch(examples, 0.0, 1.0, 1.0, 0.0))
    expected = gradients(student)
    loss, together = learn(student, examples, teachers)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert_gradients_equal(together, expected, tolerance=1e-5)


def test_documents_without_entities_or_tokens_change_nothing(student, teacher):
    examples = gold(2, seed=3, vocab=student.vocab)
    empty = Example(Doc(student.vocab), Doc(student.vocab))
    loss, plain = learn(student, examples, [teacher], gold_weight=1.0)
    padded = [empty, examples[0], *bare(1, seed=4, vocab=student.vocab), examples[1]]
    padded_loss, found = learn(student, padded, [teacher], gold_weight=1.0)
    assert padded_loss == pytest.approx(loss, rel=1e-5)
    assert_gradients_equal(found, plain, tolerance=1e-5)
    clear(student)
    for nothing in ([empty], bare(2, seed=4, vocab=student.vocab)):
        assert learn(student, nothing, [teacher], gold_weight=1.0)[0] == 0.0


def test_other_width_is_an_error_that_says_both(student, teacher):
    teacher.get_pipe("head").kb = type(student.kb)(teacher.vocab, entity_vector_length=9)
    with pytest.raises(DistillationError, match="in 6 numbers, the teacher in 9"):
        linker.check(student, teacher.get_pipe("head"))


def test_other_vectors_of_the_same_entries_are_an_error(student):
    other = blank_pipeline("entity_linker").get_pipe("head")
    linker.check(student, other)
    other.kb.set_entities(entity_list=["Q-BAD"], freq_list=[1], vector_list=[[1.0] * 6])
    with pytest.raises(DistillationError, match="entry 'Q-BAD'"):
        linker.check(student, other)
