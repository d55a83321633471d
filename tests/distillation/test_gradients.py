"""The gradients that reach a real spaCy component, against finite differences of its own loss: this catches a gradient that is
right for the logits and wrong for the head."""

import random

import numpy
import pytest
import spacy
from spacy.language import Language
from thinc.api import fix_random_seed

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.heads import Head, find_head
from spacy_distil.distillation.pipes import find_distiller

from .gradients import assert_finite_differences
from .toy import SENTIMENTS, example, examples, lesson, sentences
from .treebank import ENCODER

MEAN = {"use_reduce_first": False, "use_reduce_last": False, "use_reduce_max": False, "use_reduce_mean": True}


def bag_of_words(exclusive):
    settings = {"exclusive_classes": exclusive, "ngram_size": 1, "no_output_layer": False, "length": 64}
    return {"@architectures": "spacy.TextCatBOW.v3", **settings}


def reduced(exclusive):
    return {"@architectures": "spacy.TextCatReduce.v1", "exclusive_classes": exclusive, "tok2vec": ENCODER, **MEAN}


def ensemble(exclusive):
    return {"@architectures": "spacy.TextCatEnsemble.v2", "tok2vec": ENCODER, "linear_model": bag_of_words(exclusive)}


def parametric_attention(exclusive):
    model = "spacy.TextCatParametricAttention.v1"
    return {"@architectures": model, "exclusive_classes": exclusive, "tok2vec": ENCODER}


def transition(use_upper):
    return {
        "@architectures": "spacy.TransitionBasedParser.v2",
        "state_type": "ner",
        "extra_state_tokens": False,
        "hidden_width": 8,
        "maxout_pieces": 2,
        "use_upper": use_upper,
        "tok2vec": ENCODER,
    }


def random_pipeline(factory: str, model: dict, seed: int) -> Language:
    """One component with random weights everywhere, also where spaCy starts from zeros."""
    fix_random_seed(seed)
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe(factory, name="head", config={"model": model})
    labels = {} if factory == "ner" else {"labels": list(SENTIMENTS)}
    pipe.initialize(lambda: examples(5, seed=0, annotate="sentiment", vocab=nlp.vocab), nlp=nlp, **labels)
    rng = numpy.random.default_rng(seed)
    for node in pipe.model.walk():
        for name in node.param_names:
            if node.has_param(name) is True:
                values = node.get_param(name)
                node.set_param(name, rng.normal(scale=0.4, size=values.shape).astype("f"))
    return nlp


CASES = {
    "exclusive bag of words": ("textcat", bag_of_words(True), Head.SOFTMAX_ACTIVATION),
    "exclusive mean": ("textcat", reduced(True), Head.SOFTMAX),
    "exclusive ensemble": ("textcat", ensemble(True), Head.SOFTMAX),
    "exclusive attention": ("textcat", parametric_attention(True), Head.SOFTMAX),
    "multilabel bag of words": ("textcat_multilabel", bag_of_words(False), Head.LOGISTIC),
    "multilabel mean": ("textcat_multilabel", reduced(False), Head.LOGISTIC),
    "multilabel ensemble": ("textcat_multilabel", ensemble(False), Head.LOGISTIC),
    "ner": ("ner", transition(True), None),
    "ner without upper layer": ("ner", transition(False), None),
}


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("case", CASES)
def test_gradient_of_the_weights_equals_finite_differences(case, temperature):
    factory, model, head = CASES[case]
    student, teacher = (random_pipeline(factory, model, seed) for seed in (1, 2))
    pipe = student.get_pipe("head")
    if head is not None:
        assert find_head(pipe.model, "head") is head
    docs = sentences(4, seed=3)
    lessons = [lesson(teacher, "head", [example(doc, student.vocab).x for doc in docs])]

    def loss() -> float:
        fix_random_seed(0)  # ner drops out a tenth of its hidden values whatever the rate
        random.seed(0)
        egs = [example(doc, student.vocab) for doc in docs]
        batch = Batch(egs, drop=0.0, temperature=temperature, soft_weight=1.0, gold_weight=0.0)
        return find_distiller(pipe).update(pipe, lessons, batch)

    assert_finite_differences(pipe, loss, step=2e-3)


@pytest.mark.parametrize("factory", ["textcat", "textcat_multilabel", "ner"])
def test_gold_alone_is_exactly_spacys_own_update(factory):
    model = transition(True) if factory == "ner" else reduced(factory == "textcat")
    gradients = []
    for distil in (True, False):
        student = random_pipeline(factory, model, seed=1)
        pipe = student.get_pipe("head")
        egs = examples(6, seed=3, annotate="sentiment", vocab=student.vocab)
        fix_random_seed(0)
        if distil:
            find_distiller(pipe).update(pipe, [], Batch(egs, 0.1, 1.0, 0.0, 1.0))
        else:
            pipe.update(egs, drop=0.1, sgd=None)
        gradients.append(
            {
                (node.name, name): node.get_grad(name)
                for node in pipe.model.walk()
                for name in node.param_names
                if node.has_grad(name)
            }
        )
    assert gradients[0]
    for key in gradients[0]:
        numpy.testing.assert_array_equal(gradients[0][key], gradients[1][key])
