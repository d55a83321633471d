"""A DistilBERT teaches a smaller one: the same heads, half of the layers, each kind of listener."""

import pickle
from pathlib import Path

import pytest
import spacy
from spacy.language import Language
from thinc.api import fix_random_seed

from .toy import SENTIMENTS, TOPICS, attached, examples

OURS = {"@architectures": "spacy-distil.DistilBertListener.v1"}
SPACYS = {"@architectures": "spacy.Tok2VecListener.v1", "width": 32}
TRANSFORMERS = {
    "@architectures": "spacy-transformers.TransformerListener.v1",
    "pooling": {"@layers": "reduce_mean.v1"},
    "grad_factor": 1.0,
}
LISTENERS = pytest.mark.parametrize("listener", [OURS, SPACYS, TRANSFORMERS], ids=["ours", "spaCy's", "transformers'"])
HEADS = ("sentiment", "topics", "ner")


def build(folder: Path, listener: dict, layers: list[int] | None = None) -> Language:
    fix_random_seed(0)
    nlp = spacy.blank("en")
    encoder = {"name": str(folder), "precision": "float32", **({"layers": layers} if layers else {})}
    nlp.add_pipe("distilbert", config={"model": encoder})
    for name, factory, labels in (
        ("sentiment", "textcat_exclusive", SENTIMENTS),
        ("topics", "textcat_multilabel", TOPICS),
    ):
        model = {
            "@architectures": "spacy-distil.TextCatCls.v1",
            "exclusive_classes": name == "sentiment",
            "tok2vec": OURS,
        }
        nlp.add_pipe(factory, name=name, config={"model": model})
        nlp.config["initialize"]["components"][name] = {"labels": list(labels)}
    model = {"@architectures": "spacy.TransitionBasedParser.v2", "state_type": "ner", "extra_state_tokens": False}
    model |= {"hidden_width": 8, "maxout_pieces": 2, "use_upper": False, "tok2vec": listener}
    nlp.add_pipe("ner", config={"model": model})
    nlp.initialize(lambda: examples(10, seed=0, annotate="sentiment", vocab=nlp.vocab))
    return nlp


def attach(student: Language, teacher: Language) -> None:
    student.update = attached(student, teacher, components=HEADS)  # type: ignore[method-assign]


@LISTENERS
def test_student_comes_nearer_to_its_teacher(listener, distilbert_folder):
    teacher, student = build(distilbert_folder, listener), build(distilbert_folder, listener, layers=[0])
    for seed in range(3):  # a teacher with something to say
        teacher.update(examples(8, seed=seed, annotate="sentiment", vocab=teacher.vocab), exclude=["topics"])
    attach(student, teacher)
    before = student.get_pipe("distilbert").model.to_bytes()
    history = [student.update(examples(8, seed=7, vocab=student.vocab)) for _ in range(8)]
    for name in HEADS:
        assert history[-1][name] < history[0][name]
    assert student.get_pipe("distilbert").model.to_bytes() != before
    pickle.dumps(student)  # no gradient, no graph and no teacher hang on it


@LISTENERS
@pytest.mark.parametrize("exclude", [["ner"], ["sentiment", "topics"], list(HEADS)])
def test_encoder_learns_once_whoever_is_excluded(listener, exclude, distilbert_folder, monkeypatch):
    teacher, student = build(distilbert_folder, listener), build(distilbert_folder, listener, layers=[0])
    attach(student, teacher)
    student.update(examples(4, seed=1, vocab=student.vocab), exclude=["distilbert"], annotates=["distilbert"])
    shim, passes = student.get_pipe("distilbert").shim, []
    begin_update = shim.begin_update

    def count(*args, **kwargs):
        encoded, backprop = begin_update(*args, **kwargs)

        def counted(*gradients):
            passes.append(gradients)
            return backprop(*gradients)

        return encoded, counted

    monkeypatch.setattr(shim, "begin_update", count)
    student.update(examples(4, seed=2, vocab=student.vocab), exclude=exclude)
    heads_listen = exclude != list(HEADS)
    assert len(passes) == 1 if heads_listen else len(passes) <= 1
