"""Hidden states of every kind of encoder, and which teaches which."""

import logging
from pathlib import Path

import numpy
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc

from spacy_distil.distillation.errors import DistillationError, TeacherError
from spacy_distil.distillation.hidden_states.states import (
    hidden_states,
    kept_on_docs,
    match_layers,
    n_layers,
    pair_layers,
    width,
)
from tests.conftest import TEXTS
from tests.encoder.reference import Reference

from .curated import add_curated
from .toy import build


def with_distilbert(folder: Path) -> Language:
    nlp = spacy.blank("en")
    nlp.add_pipe("distilbert", name="encoder", config={"model": {"name": str(folder), "precision": "float32"}})
    nlp.initialize()
    return nlp


def with_transformer(folder: Path) -> Language:
    pytest.importorskip("spacy_transformers")
    nlp = spacy.blank("en")
    spans = {"@span_getters": "spacy-transformers.strided_spans.v1", "window": 24, "stride": 18}
    model = {"@architectures": "spacy-transformers.TransformerModel.v3", "name": str(folder), "get_spans": spans}
    nlp.add_pipe("transformer", name="encoder", config={"model": model})
    nlp.initialize()
    return nlp


def with_curated(folder: Path) -> Language:
    nlp = spacy.blank("en")
    add_curated(nlp, folder, name="encoder")
    nlp.initialize()
    return nlp


MAKES = {"distilbert": with_distilbert, "transformer": with_transformer, "curated": with_curated}


@pytest.mark.parametrize("make", MAKES)
def test_states_equal_transformers(make, bert_folder):
    nlp = MAKES[make](bert_folder)
    pipe = nlp.get_pipe("encoder")
    docs = [nlp.make_doc(text) for text in ["The film was great.", "", "  \n", "Unbelievably bad (2024)."]]
    assert (n_layers(pipe), width(pipe)) == (4, 32)
    with torch.no_grad():
        expected, _ = Reference(bert_folder, window=64, overlap=6)(docs)
    for actual, states in zip(hidden_states(pipe, docs, [0, 3, 4]), expected, strict=True):
        assert actual.dtype == numpy.float32
        assert actual.shape == (3, states.shape[1], 32)
        numpy.testing.assert_allclose(actual, states[[0, 3, 4]].numpy(), atol=2e-5)


@pytest.mark.parametrize("make", MAKES)
def test_states_that_were_left_on_the_docs_spare_a_run(make, bert_folder, monkeypatch):
    nlp = MAKES[make](bert_folder)
    pipe = nlp.get_pipe("encoder")
    docs = [nlp.make_doc(text) for text in [*TEXTS[:2], ""]]
    expected = hidden_states(pipe, docs, [1, 4])
    assert all(doc.tensor.size == 0 and not doc._.get("trf_data") for doc in docs)
    with kept_on_docs(pipe):
        docs = list(pipe.pipe(docs))
    monkeypatch.setattr(pipe, "predict", None)
    for actual, states in zip(hidden_states(pipe, docs, [1, 4]), expected, strict=True):
        numpy.testing.assert_allclose(actual, states, atol=1e-5)


@pytest.mark.parametrize("make", ["distilbert", "transformer"])
def test_nothing_that_is_saved_changes(make, bert_folder):
    nlp = MAKES[make](bert_folder)
    pipe, doc = nlp.get_pipe("encoder"), nlp.make_doc("The film")
    before = pipe.to_bytes(exclude=["vocab"])
    hidden_states(pipe, [doc], [1])
    assert pipe.to_bytes(exclude=["vocab"]) == before
    pipe(doc)
    assert doc._.get("hidden_states") is None
    assert not (doc._.get("trf_data") and doc._.trf_data.model_output.get("hidden_states"))


def test_a_transformer_of_overlapping_spans_gives_the_mean_over_both(bert_folder):
    nlp = with_transformer(bert_folder)
    pipe = nlp.get_pipe("encoder")
    pipe.model.attrs["get_spans"] = lambda docs: [[doc[0:3], doc[2:5]] for doc in docs]
    (states,) = hidden_states(pipe, [nlp.make_doc("The film was great.")], [4])
    parts = [
        hidden_states(with_transformer(bert_folder).get_pipe("encoder"), [nlp.make_doc(t)], [4])[0]
        for t in ("The film was", "was great.")
    ]
    numpy.testing.assert_allclose(states[0, 2], (parts[0][0, 2] + parts[1][0, 0]) / 2, atol=1e-5)


def test_tok2vec_gives_its_one_output():
    nlp = build()
    pipe = nlp.get_pipe("tok2vec")
    docs = [nlp.make_doc("The film was great"), Doc(nlp.vocab)]
    states = hidden_states(pipe, docs, [1])
    assert (n_layers(pipe), width(pipe)) == (1, 24)
    numpy.testing.assert_array_equal(states[0][0], pipe.predict(docs)[0])
    assert states[1].shape == (1, 0, 24)
    with pytest.raises(TeacherError, match="'tok2vec' does not give the hidden states \\[0\\]"):
        hidden_states(pipe, docs, [0])


def test_other_components_are_no_encoders():
    with pytest.raises(TeacherError, match="'textcat' is a TextCategorizer"):
        n_layers(build().get_pipe("textcat"))


@pytest.mark.parametrize(
    ("student", "teacher", "choice", "pairs"),
    [
        (3, 6, "uniform", [(1, 2), (2, 4), (3, 6)]),
        (6, 12, "uniform", [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10), (6, 12)]),
        (4, 6, "uniform", [(1, 2), (2, 3), (3, 5), (4, 6)]),
        (1, 12, "uniform", [(1, 12)]),
        (2, 2, "uniform", [(1, 1), (2, 2)]),
        (3, 6, "last", [(3, 6)]),
        (3, 6, [[0, 0], [3, 5]], [(0, 0), (3, 5)]),
    ],
)
def test_layers_are_matched(student, teacher, choice, pairs):
    assert match_layers(student, teacher, choice) == pairs


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([[4, 6]], r"layers = \[\[4, 6\]\]: the student has no layer 4. It has 0, the embeddings, to 3"),
        ([[1, 2], [3, 7]], "the teacher has no layer 7. It has 0, the embeddings, to 6"),
        ([[-1, 6]], "the student has no layer -1"),
    ],
)
def test_a_layer_that_is_not_there_is_named(pairs, message):
    with pytest.raises(DistillationError, match=message):
        match_layers(3, 6, pairs)


def test_a_teacher_with_one_output_teaches_the_last_layer_and_says_so(distilbert_folder, caplog):
    student, teacher = with_distilbert(distilbert_folder).get_pipe("encoder"), build().get_pipe("tok2vec")
    caplog.clear()
    with caplog.at_level(logging.INFO, "spacy"):
        assert pair_layers(student, teacher, "uniform") == [(4, 1)]
        assert pair_layers(teacher, student, "uniform") == [(1, 4)]
    assert [record.getMessage() for record in caplog.records] == [
        "The teacher's 'tok2vec' gives its last layer alone: it teaches the student's last."
    ]
    with pytest.raises(
        DistillationError, match="the teacher's 'tok2vec' gives its last layer alone, which is number 1"
    ):
        pair_layers(student, teacher, [[4, 0]])
