"""What a component learns from which part of a batch."""

import numpy
import pytest
import spacy
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import fix_random_seed

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.errors import DistillationError, LabelError
from spacy_distil.distillation.gold import has_gold
from spacy_distil.distillation.heads import find_head
from spacy_distil.distillation.pipes import find_distiller
from spacy_distil.distillation.teacher import Teacher

from .toy import HEADS, TOPICS, build, example, examples, lesson, sentences


def gradient_of(name, docs, teacher, *, soft=1.0, gold=1.0, **settings):
    """The gradients of a fresh student's component, as one vector, and the loss."""
    nlp = build(shared=False)
    pipe = nlp.get_pipe(name)
    pipe.cfg.update(settings)
    egs = [example(doc, nlp.vocab) for doc in docs]
    lessons = [lesson(teacher, name, [eg.x for eg in egs])] if soft else []
    batch = Batch(egs, drop=0.0, temperature=2.0, soft_weight=soft, gold_weight=gold)
    fix_random_seed(0)
    loss = find_distiller(pipe).update(pipe, lessons, batch)
    grads = [n.get_grad(k).ravel() for n in pipe.model.walk() for k in n.param_names if n.has_grad(k)]
    return (numpy.concatenate(grads) if grads else numpy.zeros(1)), loss


@pytest.mark.parametrize("name", HEADS)
def test_soft_and_gold_gradients_add_up_by_weight(name, teacher):
    docs = sentences(6, seed=5, annotate="topics" if name == "textcat_multilabel" else "sentiment")
    soft, soft_loss = gradient_of(name, docs, teacher, soft=1.0, gold=0.0)
    gold, gold_loss = gradient_of(name, docs, teacher, soft=0.0, gold=1.0)
    both, both_loss = gradient_of(name, docs, teacher, soft=0.7, gold=0.2)
    assert numpy.abs(soft).max() > 0
    assert numpy.abs(gold).max() > 0
    numpy.testing.assert_allclose(both, 0.7 * soft + 0.2 * gold, atol=1e-4 * numpy.abs(soft).max())
    assert both_loss == pytest.approx(0.7 * soft_loss + 0.2 * gold_loss, rel=1e-3)


@pytest.mark.parametrize("name", HEADS)
def test_unlabelled_text_teaches_alone_and_is_not_taken_as_empty(name, teacher):
    docs = sentences(6, seed=5)
    soft, soft_loss = gradient_of(name, docs, teacher, soft=1.0, gold=0.0)
    both, both_loss = gradient_of(name, docs, teacher, soft=1.0, gold=1.0)
    assert numpy.abs(soft).max() > 0
    numpy.testing.assert_array_equal(soft, both)
    assert soft_loss == both_loss
    gold, gold_loss = gradient_of(name, docs, teacher, soft=0.0, gold=1.0)
    assert gold_loss == 0
    assert not gold.any()


@pytest.mark.parametrize(("name", "annotate"), [("textcat", "topics"), ("textcat_multilabel", "sentiment")])
def test_categories_of_another_component_are_no_gold(name, annotate, teacher):
    gold, loss = gradient_of(name, sentences(6, seed=5, annotate=annotate), teacher, soft=0.0, gold=1.0)
    assert loss == 0
    assert not gold.any()


def test_exclusive_categories_stand_beside_those_of_another_component(teacher):
    docs = sentences(6, seed=5, annotate="sentiment")
    alone, _ = gradient_of("textcat", docs, teacher, soft=0.0)
    for doc in docs:
        doc.cats = {**doc.cats, **dict.fromkeys(TOPICS, 1.0)}
    beside, _ = gradient_of("textcat", docs, teacher, soft=0.0)
    numpy.testing.assert_array_equal(alone, beside)


def test_only_annotated_texts_of_a_mixed_batch_give_gold(teacher):
    labelled, bare = sentences(4, seed=5, annotate="sentiment"), sentences(4, seed=6)
    mixed, _ = gradient_of("textcat", bare + labelled, teacher, soft=0.0)
    alone, _ = gradient_of("textcat", labelled, teacher, soft=0.0)
    numpy.testing.assert_allclose(mixed, alone, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_a_teacher_can_be_asked_of_nothing_but_empty_documents(name, teacher):
    """The cache may know all others of a batch."""
    (answer,) = lesson(teacher, name, [Doc(teacher.vocab)]).answers
    assert all(numpy.isfinite(array).all() for array in answer.values())


def annotated(teacher, name, egs):
    """The teacher's documents, ready for a component."""
    source = Teacher(teacher, HEADS)
    docs = source.copy([eg.x for eg in egs])
    source.annotate(docs, source.upstream(name))
    return docs


def test_labels_in_another_order_get_their_own_gradient(teacher):
    nlp = build(shared=False)
    pipe = nlp.get_pipe("textcat")
    pipe.cfg["labels"].reverse()
    egs = examples(1, seed=5, vocab=nlp.vocab)
    find_distiller(pipe).update(
        pipe, [lesson(teacher, "textcat", [eg.x for eg in egs])], Batch(egs, 0.0, 1.0, 1.0, 0.0)
    )
    taught = annotated(teacher, "textcat", egs)
    cats = dict(zip(teacher.get_pipe("textcat").labels, teacher.get_pipe("textcat").predict(taught)[0], strict=True))
    expected = [1 / 3 - cats[label] for label in pipe.labels]  # the student starts from equal scores
    numpy.testing.assert_allclose(pipe.model.get_ref("output_layer").get_grad("b"), expected, atol=1e-5)


def test_moves_in_another_order_get_their_own_gradient(teacher):
    nlp, taught_pipe = spacy.blank("en"), teacher.get_pipe("ner")
    pipe = nlp.add_pipe("ner")
    labels = {action: {"PLACE": 2, "PERSON": 1} for action in ("1", "2", "3", "4")} | {"5": {"": 1}}
    labels["4"][""] = 1
    labels = {int(action): counts for action, counts in labels.items()}
    pipe.initialize(lambda: examples(3, seed=0, vocab=nlp.vocab), nlp=nlp, labels=labels)
    moves, teachers_moves = ([p.moves.get_class_name(i) for i in range(p.moves.n_moves)] for p in (pipe, taught_pipe))
    assert sorted(moves) == sorted(teachers_moves)
    assert moves != teachers_moves
    egs = [Example(Doc(nlp.vocab, words=["Lyra"]), Doc(nlp.vocab, words=["Lyra"]))]  # one token, one state
    find_distiller(pipe).update(pipe, [lesson(teacher, "ner", [egs[0].x])], Batch(egs, 0.0, 1.0, 1.0, 0.0))
    taught = annotated(teacher, "ner", egs)
    scores = taught_pipe.model.predict(taught).predict(pipe.moves.init_batch([egs[0].x]))[0]
    probability = dict(zip(teachers_moves, numpy.exp(scores) / numpy.exp(scores).sum(), strict=True))
    expected = [1 / len(moves) - probability[move] for move in moves]  # the student starts from equal scores
    numpy.testing.assert_allclose(pipe.model.get_ref("upper").get_grad("b"), expected, atol=1e-5)


def test_move_that_the_corpus_never_showed_is_learnt_from_the_teacher(teacher):
    """spaCy masks the moves of labels that were added to a trained component until the corpus shows them."""
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("ner")
    pipe.add_label("PERSON")
    pipe.initialize(lambda: examples(3, seed=0, vocab=nlp.vocab), nlp=nlp)
    pipe.add_label("PLACE")
    egs = examples(3, seed=5, vocab=nlp.vocab)
    find_distiller(pipe).update(pipe, [lesson(teacher, "ner", [eg.x for eg in egs])], Batch(egs, 0.0, 1.0, 1.0, 0.0))
    added = [i for i in range(pipe.moves.n_moves) if pipe.moves.get_class_name(i).endswith("-PLACE")]
    assert pipe.model.get_ref("upper").get_grad("b")[added].all()


def test_long_texts_are_cut_along_the_teachers_path(teacher):
    words = [token.text for doc in sentences(12, seed=8) for token in doc]
    doc = Doc(teacher.vocab, words=words)
    _, whole_loss = gradient_of("ner", [doc], teacher, gold=0.0, update_with_oracle_cut_size=0)
    cut, cut_loss = gradient_of("ner", [doc], teacher, gold=0.0, update_with_oracle_cut_size=10)
    assert numpy.isfinite(cut).all()
    # As many moves, and some more where one piece runs into the next.
    assert 0.5 * whole_loss < cut_loss < 3 * whole_loss


def test_unknown_gold_label_is_an_error(teacher):
    doc = sentences(1, seed=5, annotate="sentiment")[0]
    doc.set_ents([doc.char_span(0, len(doc[0]), label="MARTIAN")])
    with pytest.raises(LabelError, match="'MARTIAN'"):
        gradient_of("ner", [doc], teacher)


def test_exclusive_and_independent_classes_do_not_mix(teacher):
    student = build(shared=False)
    student.get_pipe("textcat").cfg["labels"] = list(TOPICS)
    pipe = student.get_pipe("textcat")
    with pytest.raises(LabelError, match="exclusive classes"):
        find_distiller(pipe).check(pipe, teacher.get_pipe("textcat_multilabel"))


def test_unknown_output_layer_is_an_error():
    from thinc.api import Relu

    with pytest.raises(DistillationError, match="'relu'"):
        find_head(Relu(), "textcat")


def test_gold_is_told_from_its_absence():
    nlp = build()
    ner = nlp.get_pipe("ner")
    bare, none = Doc(nlp.vocab, words=["a", "b"]), Doc(nlp.vocab, words=["a", "b"])
    none.ents = []
    assert not has_gold(ner, bare)
    assert has_gold(ner, none)
    assert not has_gold(ner, Doc(nlp.vocab))
    for factory, filled in {
        "tagger": {"tags": ["X", "Y"]},
        "morphologizer": {"pos": ["X", "NOUN"]},
        "senter": {"sent_starts": [True, False]},
        "trainable_lemmatizer": {"lemmas": ["a", "b"]},
        "parser": {"heads": [0, 0], "deps": ["ROOT", "dep"]},
        "spancat": {"spans": {"sc": [(0, 1, "X")]}},
        "entity_linker": {"entities": [(0, 1, "X")], "links": {(0, 1): {"Q1": 1.0}}},
    }.items():
        pipe = nlp.add_pipe(factory, name=f"a_{factory}")
        assert not has_gold(pipe, bare), factory
        assert has_gold(pipe, Example.from_dict(Doc(nlp.vocab, words=["a", "b"]), filled).reference), factory
