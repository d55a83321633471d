"""Pipelines of every kind made smaller, from their encoders to their settings."""

from __future__ import annotations

import pytest
import spacy
import torch
from spacy.training import Example

from spacy_distil.compression.budget import multiply_adds
from spacy_distil.compression.encoders import find_encoders
from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.slim import measure_sample, slim
from spacy_distil.encoder.config import LayerConfig
from spacy_distil.pipeline.references import register_references
from tests.compression.conftest import randomize_head
from tests.conftest import TEXTS
from tests.pipeline import questions
from tests.pipeline.conftest import LISTENER, tagger


def test_slim_reports_what_stays_of_each_layer(nlp, corpus, shim):
    slimmed = slim(nlp, corpus, compute=0.4, layers=[0, 2, 3])["distilbert"]
    assert slimmed.after == shim.encoder.config
    assert [part.layer for part in slimmed.parts] == [0, 2, 3]
    assert [(len(p.heads), len(p.neurons)) for p in slimmed.parts] == [
        (layer.n_heads, layer.ffn_width) for layer in slimmed.after.layers
    ]
    assert slimmed.before.layers == (LayerConfig(4, 48),) * 4


def test_the_scores_of_the_whole_pipeline_are_forgotten(nlp, corpus):
    nlp.meta["performance"] = {"tag_acc": 1.0}
    slim(nlp, corpus, layers=[0])
    assert nlp.meta["performance"] == {}


def test_layers_alone_need_no_corpus(nlp, shim):
    slim(nlp, layers=[0, 1])
    assert shim.encoder.config.layers == (LayerConfig(4, 48),) * 2


@pytest.mark.parametrize(("layers", "freeze"), [([0, 2, 3], 2), ([3], 0)])
def test_of_frozen_layers_those_stay_frozen_that_are_left(build, corpus, tmp_path, layers, freeze):
    nlp = build(tagger=tagger(LISTENER), encoder={"freeze": 3})
    slim(nlp, layers=layers)
    nlp.to_disk(tmp_path / "nlp")
    loaded = spacy.load(tmp_path / "nlp")
    for pipeline in (nlp, loaded):
        shim = pipeline.get_pipe("distilbert").shim
        assert shim.options.freeze == freeze
        learns = [part.output_layer_norm.weight.requires_grad for part in shim.encoder.layers]
        assert learns == [False] * freeze + [True] * (len(layers) - freeze)


def test_importance_is_measured_once_for_several_widths(build, nlp, corpus, shim, tmp_path, monkeypatch):
    nlp.to_disk(tmp_path / "nlp")
    measured = measure_sample(nlp, corpus)
    monkeypatch.setattr("spacy_distil.compression.slim.measure_importance", None)
    slim(nlp, compute=0.5, importance=measured)
    monkeypatch.undo()
    other = spacy.load(tmp_path / "nlp")
    slim(other, corpus, compute=0.5)
    assert shim.to_bytes() == other.get_pipe("distilbert").shim.to_bytes()


def test_encoders_inside_components_are_pruned_too(nlp, corpus, distilbert_folder):
    own = {"@architectures": "spacy-distil.DistilBert.v1", "name": str(distilbert_folder), "precision": "float32"}
    nlp.add_pipe("tagger", name="own", config=tagger(own))
    nlp.get_pipe("own").initialize(lambda: corpus, nlp=nlp)
    randomize_head(nlp, "own")
    assert list(find_encoders(nlp)) == ["distilbert", "own"]
    slimmed = slim(nlp, corpus, compute=0.5)
    assert slimmed["own"].parts != slimmed["distilbert"].parts
    assert [token.tag_ for token in nlp(TEXTS[0])]


def test_an_encoder_that_no_component_learns_from_can_not_be_measured(build, corpus):
    nlp = build()
    examples = [Example(nlp.make_doc(text), nlp.make_doc(text)) for text in TEXTS]
    with pytest.raises(CompressionError, match="No loss has reached"):
        slim(nlp, examples, compute=0.5)
    with pytest.raises(CompressionError, match="no components"):
        find_encoders(spacy.blank("en"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compute": 0.0}, "compute = 0.0"),
        ({"compute": 1.5}, "compute = 1.5"),
        ({"coverage": 0.0}, "coverage = 0.0"),
        ({}, "Nothing is to be removed"),
        ({"layers": [7]}, "0 to 3"),
        ({"compute": 0.01}, "a layer would lose all its heads"),
    ],
)
def test_what_can_not_be_asked_for_is_said_before_anything_changes(nlp, corpus, settings, message):
    before = nlp.to_bytes()
    with pytest.raises(CompressionError, match=message):
        slim(nlp, corpus, **settings)
    assert nlp.to_bytes() == before
    with pytest.raises(CompressionError, match="name one"):
        slim(nlp, compute=0.5)


def test_a_pipeline_that_has_learnt_learns_on_after_slimming(nlp, corpus):
    nlp.resume_training()
    nlp.update(corpus)
    slim(nlp, corpus, compute=0.6)
    nlp.update(corpus)


def test_a_pipeline_that_answers_questions(distilbert_folder):
    nlp = questions.make_nlp(distilbert_folder)
    randomize_head(nlp, "distilbert_qa")
    bare = [questions.example(nlp, text, [(q, None) for q, _ in asked]) for text, asked in questions.PASSAGES]
    for examples in (questions.examples(nlp), bare):
        slimmed = slim(nlp, examples, compute=0.7)["distilbert_qa"]
        assert multiply_adds(slimmed.after) <= 0.7 * multiply_adds(slimmed.before)
    slim(nlp, questions.examples(nlp), coverage=1.0)
    assert nlp(questions.PASSAGES[0][0])._.ask("Where?")


@pytest.mark.parametrize("vocabulary", ["bpe", "source"])
def test_a_pipeline_that_translates(distilbert_folder, vocabulary):
    register_references()
    nlp = spacy.blank("en")
    encoder = {"@architectures": "spacy-distil.DistilBert.v1", "name": str(distilbert_folder), "precision": "float32"}
    settings = {"encoder": encoder, "n_layers": 1, "vocabulary": vocabulary, "vocabulary_size": 80}
    nlp.add_pipe("distilbert_seq2seq", config={"model": {"@architectures": "spacy-distil.Seq2Seq.v1", **settings}})
    examples = [Example(nlp.make_doc(text), nlp.make_doc(text)) for text in TEXTS]
    for example in examples:
        example.reference._.translations = [example.reference.text.lower()]
    nlp.initialize(lambda: examples)
    decoder = nlp.get_pipe("distilbert_seq2seq").model.shims[0]
    before = {name: value.clone() for name, value in decoder.decoder.state_dict().items()}
    slimmed = slim(nlp, examples, compute=0.5)["distilbert_seq2seq"]
    assert multiply_adds(slimmed.after) <= 0.5 * multiply_adds(slimmed.before)
    assert all(torch.equal(value, before[name]) for name, value in decoder.decoder.state_dict().items())
    if vocabulary == "source":
        with pytest.raises(CompressionError, match="writes with the pieces"):
            slim(nlp, examples, coverage=1.0)
    else:
        slim(nlp, examples, coverage=1.0)
    nlp.update(examples, sgd=nlp.resume_training())
    assert isinstance(nlp(TEXTS[0])._.translation, str)
