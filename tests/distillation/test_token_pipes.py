"""tagger, morphologizer, senter and trainable_lemmatizer: what each learns, and from what."""

import numpy
import pytest
import spacy
from spacy.pipeline._edit_tree_internals.edit_trees import EditTrees
from spacy.strings import StringStore
from spacy.tokens import Doc
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import fix_random_seed

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.edit_trees import describe
from spacy_distil.distillation.errors import LabelError
from spacy_distil.distillation.labels import teacher_labels
from spacy_distil.distillation.lessons import Lesson
from spacy_distil.distillation.losses import softmax
from spacy_distil.distillation.pipes import tokens

from .gradients import assert_finite_differences, assert_gradients_equal, gradients
from .toy import lesson
from .treebank import bare, blank_pipeline, gold, paragraphs, random_pipeline

FACTORIES = ["tagger", "morphologizer", "senter", "trainable_lemmatizer"]
LABELLED = ["tagger", "morphologizer", "trainable_lemmatizer"]


def soft(factory, examples, lessons, *, temperature=1.0, gold_weight=0.0, soft_weight=1.0, drop=0.0, **settings):
    """A student's loss and gradients."""
    pipe = random_pipeline(factory, seed=1, **settings).get_pipe("head")
    fix_random_seed(0)
    loss = tokens.update(pipe, lessons, Batch(examples, drop, temperature, soft_weight, gold_weight))
    return loss, gradients(pipe)


def reordered(factory, teacher):
    """The same teacher with its labels in the opposite order, and, of edit trees, under other numbers."""
    pipe = teacher.get_pipe("head")
    other = random_pipeline(factory, seed=2)
    twin = other.get_pipe("head")
    if factory == "tagger":
        twin.cfg["labels"] = twin.cfg["labels"][::-1]
    elif factory == "morphologizer":
        twin.cfg["labels_morph"] = dict(reversed(twin.cfg["labels_morph"].items()))
    else:
        twin = blank_pipeline(factory).get_pipe("head")
        data = pipe.label_data
        # A further tree in front of all others gives each another number.
        twin.trees.add("unheard", "of")
        moved = {tree: twin.trees.add(*word) for tree, word in words_of_trees(pipe).items()}
        twin.cfg["labels"] = [moved[tree] for tree in reversed(data["labels"])]
        twin.model = other.get_pipe("head").model
    layer = twin.model.get_ref("output_layer")
    for name in ("W", "b"):
        layer.set_param(name, pipe.model.get_ref("output_layer").get_param(name)[::-1].copy())
    return twin


def words_of_trees(pipe):
    """A word and its lemma for each label."""
    pairs = {(token.text, token.lemma_) for doc in paragraphs(8, seed=0) for token in doc}
    return {pipe.trees.add(*pair): pair for pair in sorted(pairs)}


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("factory", FACTORIES)
def test_gradient_of_the_weights_equals_finite_differences(factory, temperature):
    student, teacher = random_pipeline(factory, seed=1), random_pipeline(factory, seed=2)
    pipe = student.get_pipe("head")
    examples = bare(3, seed=3, vocab=student.vocab)
    lessons = [lesson(teacher, "head", [eg.x for eg in examples])]
    batch = Batch(examples, drop=0.0, temperature=temperature, soft_weight=1.0, gold_weight=0.0)
    assert_finite_differences(pipe, lambda: tokens.update(pipe, lessons, batch))


@pytest.mark.parametrize("factory", FACTORIES)
def test_gold_alone_is_exactly_spacys_own_update(factory):
    student = random_pipeline(factory, seed=1)
    examples = gold(4, seed=3, vocab=student.vocab)
    loss, ours = soft(factory, examples, [], gold_weight=1.0, drop=0.1)
    pipe = student.get_pipe("head")
    fix_random_seed(0)
    losses = pipe.update(examples, drop=0.1, sgd=None)
    assert_gradients_equal(ours, gradients(pipe))
    assert loss == losses["head"] > 0
    assert type(loss) is float


@pytest.mark.parametrize("factory", FACTORIES)
def test_soft_and_gold_gradients_add_up_by_weight(factory):
    teacher = random_pipeline(factory, seed=2)
    examples = gold(3, seed=3)
    lessons = [lesson(teacher, "head", [eg.x for eg in examples])]
    soft_loss, soft_gradients = soft(factory, examples, lessons)
    gold_loss, gold_gradients = soft(factory, examples, [], gold_weight=1.0)
    loss, both = soft(factory, examples, lessons, soft_weight=0.7, gold_weight=0.2)
    assert loss == pytest.approx(0.7 * soft_loss + 0.2 * gold_loss, rel=1e-5)
    expected = {key: 0.7 * soft_gradients[key] + 0.2 * gold_gradients[key] for key in both}
    assert_gradients_equal(both, expected, tolerance=1e-4)


@pytest.mark.parametrize("factory", FACTORIES)
def test_text_without_annotation_gives_no_gold(factory):
    annotated, rest = gold(2, seed=3), bare(2, seed=4)
    loss, mixed = soft(factory, [rest[0], annotated[0], rest[1], annotated[1]], [], gold_weight=1.0)
    alone_loss, alone = soft(factory, annotated, [], gold_weight=1.0)
    assert loss == pytest.approx(alone_loss, rel=1e-5)
    assert_gradients_equal(mixed, alone, tolerance=1e-4)
    assert soft(factory, rest, [], gold_weight=1.0) == (0.0, {})


@pytest.mark.parametrize("factory", LABELLED)
def test_columns_are_aligned_by_name(factory):
    teacher = random_pipeline(factory, seed=2)
    twin = reordered(factory, teacher)
    pipe = teacher.get_pipe("head")
    assert list(tokens._labels(twin)) == list(tokens._labels(pipe))[::-1]
    examples = bare(3, seed=3)
    docs = [eg.x for eg in examples]
    lessons = [Lesson(p, tokens.ask(p, docs, [])) for p in (pipe, twin)]
    assert not numpy.allclose(*(part.answers[0]["logits"] for part in lessons))
    (loss, straight), (other_loss, turned) = (soft(factory, examples, [part]) for part in lessons)
    assert loss == pytest.approx(other_loss, rel=1e-5)
    assert_gradients_equal(straight, turned, tolerance=1e-4)


@pytest.mark.parametrize("factory", FACTORIES)
def test_probabilities_of_two_teachers_are_averaged(factory):
    examples = bare(3, seed=3)
    docs = [eg.x for eg in examples]
    lessons = [lesson(random_pipeline(factory, seed=seed), "head", docs) for seed in (2, 3)]
    mean = [
        {"logits": numpy.log((softmax(one["logits"]) + softmax(other["logits"])) / 2)}
        for one, other in zip(lessons[0].answers, lessons[1].answers, strict=True)
    ]
    loss, together = soft(factory, examples, lessons, temperature=2.0)
    expected_loss, expected = soft(factory, examples, [Lesson(lessons[0].teacher, mean)], temperature=2.0)
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    assert_gradients_equal(together, expected, tolerance=1e-4)


@pytest.mark.parametrize("factory", FACTORIES)
def test_documents_without_tokens_change_nothing(factory):
    vocab, teacher = Vocab(), random_pipeline(factory, seed=2)
    empty = Example(Doc(vocab), Doc(vocab))
    examples = gold(2, seed=3, vocab=vocab)
    results = []
    for batch in (examples, [empty, examples[0], empty, examples[1]]):
        lessons = [lesson(teacher, "head", [eg.x for eg in batch])]
        results.append(soft(factory, batch, lessons, gold_weight=1.0))
    assert results[0][0] == pytest.approx(results[1][0])
    assert_gradients_equal(results[0][1], results[1][1], tolerance=1e-5)
    assert lesson(teacher, "head", [empty.x]).answers[0]["logits"].shape == (0, len(teacher.get_pipe("head").labels))
    assert soft(factory, [empty], [lesson(teacher, "head", [empty.x])], gold_weight=1.0) == (0.0, {})


def test_other_tags_are_an_error_that_names_them():
    student = blank_pipeline("tagger", labels=["NN", "MINE"]).get_pipe("head")
    teacher = blank_pipeline("tagger", labels=["NN", "THEIRS"]).get_pipe("head")
    with pytest.raises(LabelError, match=r"(?s)'MINE'.*'THEIRS'"):
        tokens.check(student, teacher)


def test_tagger_and_morphologizer_have_nothing_to_teach_each_other():
    with pytest.raises(LabelError, match="'JJ'"):
        tokens.check(blank_pipeline("tagger").get_pipe("head"), blank_pipeline("morphologizer").get_pipe("head"))


def test_other_edit_trees_are_an_error_that_says_what_they_do():
    student, teacher = (blank_pipeline("trainable_lemmatizer").get_pipe("head") for _ in range(2))
    student._pair2label("ponies", "pony", add_label=True)
    with pytest.raises(LabelError, match="Only the student has '…ies → …y'"):
        tokens.check(student, teacher)


@pytest.mark.parametrize(
    ("form", "lemma", "expected"),
    [
        ("walk", "walk", "… → …"),
        ("walked", "walk", "…ed → …"),
        ("am", "be", "am → be"),
        ("gegooid", "gooien", "ge…d → …en"),
        ("Mice", "mouse", "Mic… → mous…"),
        ("gesprochen", "sprechen", "ge···o… → ···e…"),
        ("wait…", "wait", "…\\… → …"),
    ],
)
def test_edit_tree_is_described_by_what_it_does(form, lemma, expected):
    strings = StringStore()
    trees = EditTrees(strings)
    trees.add("another", "tree")
    assert describe(trees, trees.add(form, lemma), strings) == expected


def test_unknown_gold_tag_is_an_error_that_names_it():
    examples = gold(1, seed=3)
    examples[0].reference[0].tag_ = "MARTIAN"
    with pytest.raises(LabelError, match="'MARTIAN'"):
        soft("tagger", examples, [], gold_weight=1.0)


def test_negative_gold_tags_are_learnt_as_spacy_learns_them():
    student = random_pipeline("tagger", seed=1)
    examples = gold(2, seed=3, vocab=student.vocab)
    for example in examples:
        example.reference[0].tag_ = "!JJ"
    _, ours = soft("tagger", examples, [], gold_weight=1.0)
    pipe = student.get_pipe("head")
    fix_random_seed(0)
    pipe.update(examples, sgd=None)
    assert_gradients_equal(ours, gradients(pipe))


def test_loaded_lemmatizer_learns_gold_as_before_it_was_saved(tmp_path):
    """spaCy forgets which tree has which label, and then teaches label 0 for every token."""
    student = random_pipeline("trainable_lemmatizer", seed=1)
    student.to_disk(tmp_path)
    examples = gold(3, seed=3, vocab=student.vocab)
    _, expected = soft("trainable_lemmatizer", examples, [], gold_weight=1.0)
    pipe = spacy.load(tmp_path).get_pipe("head")
    fix_random_seed(0)
    tokens.update(pipe, [], Batch(examples, 0.0, 1.0, 0.0, 1.0))
    assert_gradients_equal(gradients(pipe), expected)


@pytest.mark.parametrize("factory", LABELLED)
def test_student_takes_its_labels_over_from_the_teacher(factory, tmp_path):
    teacher = random_pipeline(factory, seed=2)
    teacher.to_disk(tmp_path)
    config = teacher.config.copy()
    config["initialize"]["components"]["head"] = {
        "labels": {"@readers": "spacy-distil.TeacherLabels.v1", "teacher": str(tmp_path), "component": "head"}
    }
    student = spacy.util.load_model_from_config(config)
    student.initialize(lambda: bare(2, seed=5, vocab=student.vocab))
    pipe = student.get_pipe("head")
    tokens.check(pipe, teacher.get_pipe("head"))
    assert list(tokens._labels(pipe)) == list(tokens._labels(teacher.get_pipe("head")))
    assert teacher_labels(str(tmp_path), "head") == teacher.get_pipe("head").label_data
