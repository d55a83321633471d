"""What is written loads in transformers and says what the component says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import spacy
import torch
import transformers
from spacy.language import Language
from spacy.tokens import Doc
from transformers import AutoTokenizer, pipeline

from spacy_distil.compression.structured import LayerPart, keep_parts
from spacy_distil.encoder.pieces import docs_to_pieces
from spacy_distil.encoder.shim import to_checkpoint
from spacy_distil.errors import CheckpointError, ExportError
from spacy_distil.hub.exporting import prepare_export
from spacy_distil.hub.importing import import_model
from tests.conftest import TEXTS
from tests.hub.conftest import EXACT, TAGS, TOPICS

HEADS = [
    ("SequenceClassification", {"labels": TOPICS}),
    ("SequenceClassification", {"labels": TOPICS, "problem_type": "multi_label_classification"}),
    ("TokenClassification", {"labels": TAGS}),
    ("TokenClassification", {"labels": ["NOUN", "VERB"]}),
    ("MaskedLM", {}),
]
LISTENER = {"@architectures": "spacy-distil.DistilBertListener.v1"}


def outputs(folder, text: str) -> dict[str, torch.Tensor]:
    """What the class that config.json names gives, without a warning of weights that are missing or superfluous."""
    config = transformers.AutoConfig.from_pretrained(folder)
    model, info = getattr(transformers, config.architectures[0]).from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    with torch.no_grad():
        return model.eval()(**AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt"))


@pytest.fixture
def build(distilbert_folder, bert_folder):
    """An untrained pipeline with a classifier on an encoder."""

    def make(model_type: str, *, activation: str = "relu", **encoder: Any) -> Language:
        spacy.util.fix_random_seed(0)
        nlp = spacy.blank("en")
        name = str(distilbert_folder if model_type == "distilbert" else bert_folder)
        nlp.add_pipe("distilbert", config={"model": {"name": name, "precision": "float32", **encoder}})
        model = {"@architectures": "spacy-distil.TextCatCls.v1", "exclusive_classes": True, "activation": activation}
        nlp.add_pipe("textcat", config={"model": {**model, "tok2vec": LISTENER}})
        nlp.config["initialize"]["components"]["textcat"] = {"labels": TOPICS}
        nlp.initialize()
        output = nlp.get_pipe("textcat").model.get_ref("output_layer")
        output.set_param("W", np.random.normal(size=(3, 32)).astype("f"))
        return nlp

    return make


@pytest.mark.parametrize(("head", "config"), HEADS)
def test_an_imported_model_is_written_back_as_it_was(save_head, model_type, head, config, tmp_path):
    folder = save_head(model_type, head, **config)
    nlp, _ = import_model(str(folder))
    prepare_export(nlp).write(tmp_path / "written")
    for text in [*TEXTS, "The [MASK] was [MASK]."]:
        assert torch.equal(outputs(tmp_path / "written", text)["logits"], outputs(folder, text)["logits"])
    before, after = (transformers.AutoConfig.from_pretrained(path) for path in (folder, tmp_path / "written"))
    assert after.architectures == before.architectures
    assert after.id2label == before.id2label
    if head == "SequenceClassification":
        assert after.problem_type == (before.problem_type or "single_label_classification")


def test_a_question_answerer_is_written_back_as_it_was(save_head, model_type, tmp_path):
    folder = save_head(model_type, "QuestionAnswering")
    prepare_export(import_model(str(folder))[0]).write(tmp_path / "written")
    for name in ("start_logits", "end_logits"):
        assert torch.equal(outputs(tmp_path / "written", TEXTS[1])[name], outputs(folder, TEXTS[1])[name])


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_head_of_the_other_family_takes_its_encoder_along(build, model_type, activation, tmp_path):
    nlp = build(model_type, activation=activation)
    export = prepare_export(nlp)
    export.write(tmp_path / "written")
    expected = "DistilBertForSequenceClassification" if activation == "relu" else "BertForSequenceClassification"
    assert export.folder.architecture == expected
    assert bool(export.notes) == ((model_type == "bert") == (activation == "relu"))
    classify = pipeline("text-classification", model=str(tmp_path / "written"))
    for text in TEXTS:
        scores = {row["label"]: row["score"] for row in classify(text, top_k=None)}
        assert nlp(text).cats == pytest.approx(scores, abs=EXACT)


def test_a_student_of_some_layers_is_written(build, tmp_path):
    nlp = build("bert", activation="tanh", layers=[0, 2])
    prepare_export(nlp).write(tmp_path / "written")
    classify = pipeline("text-classification", model=str(tmp_path / "written"))
    scores = {row["label"]: row["score"] for row in classify(TEXTS[1], top_k=None)}
    assert nlp(TEXTS[1]).cats == pytest.approx(scores, abs=EXACT)


@pytest.mark.parametrize("narrow", [False, True])
def test_layers_that_were_made_smaller_are_filled_up(build, model_type, narrow, tmp_path):
    nlp = build(model_type, activation="relu" if model_type == "distilbert" else "tanh")
    shim = nlp.get_pipe("distilbert").shim
    parts = [LayerPart(0, (1, 3), (0, 5, 7)), LayerPart(1, (2,), tuple(range(40))), LayerPart(3, (0, 1, 2, 3), (9,))]
    if narrow:  # layers of one shape, and of too few heads
        parts = [LayerPart(layer, (0, 2), (1, 4)) for layer in range(4)]
    shim.adopt(keep_parts(to_checkpoint(shim), tuple(parts)))
    export = prepare_export(nlp)
    assert "written as zeros" in export.notes[-1]
    export.write(tmp_path / "written")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "written")
    assert config.num_attention_heads == 4
    assert config.to_dict().get("hidden_dim", config.to_dict().get("intermediate_size")) == (2 if narrow else 40)
    classify = pipeline("text-classification", model=str(tmp_path / "written"))
    for text in TEXTS:
        scores = {row["label"]: row["score"] for row in classify(text, top_k=None)}
        assert nlp(text).cats == pytest.approx(scores, abs=EXACT)
    if not narrow:
        export.write_onnx(tmp_path / "written", nlp)  # an error where it says something else


def test_of_a_token_of_several_pieces_the_mean_of_their_logits_is_what_the_component_says(build, tmp_path):
    nlp = build("distilbert")
    tagger: Any = nlp.add_pipe("tagger", config={"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": LISTENER}})
    nlp.config["initialize"]["components"]["tagger"] = {"labels": ["A", "B"]}
    nlp.initialize()
    tagger.model.get_ref("output_layer").set_param("W", np.random.normal(size=(2, 32)).astype("f"))
    export = prepare_export(nlp, "tagger")
    assert "mean" in export.notes[0]
    export.write(tmp_path / "written")
    doc = nlp("unbelievably endless plot")
    logits = outputs(tmp_path / "written", doc.text)["logits"][0][1:-1]
    pieces = docs_to_pieces([doc], nlp.get_pipe("distilbert").shim.tokenizer)
    means = [logits[a:b].mean(0).numpy() for a, b in zip(pieces.token_starts, pieces.token_ends, strict=True)]
    assert len(logits) > len(doc)
    assert np.allclose(tagger.model.predict([doc])[0], means, atol=EXACT)


def test_of_a_component_without_a_class_the_encoder_alone_is_written(build, tmp_path):
    nlp = build("distilbert")
    model = {"@architectures": "spacy.TransitionBasedParser.v2", "state_type": "ner", "extra_state_tokens": False}
    model |= {"hidden_width": 8, "maxout_pieces": 2, "use_upper": False, "tok2vec": LISTENER}
    ner: Any = nlp.add_pipe("ner", config={"model": model})
    ner.add_label("PER")
    nlp.initialize()
    export = prepare_export(nlp, "ner")
    assert "no head for 'ner', a EntityRecognizer of the architecture spacy.TransitionBasedParser.v2" in export.notes[0]
    export.write(tmp_path / "written")
    doc = nlp("The film")
    hidden = outputs(tmp_path / "written", doc.text)["last_hidden_state"][0][1:-1]
    assert np.allclose(doc.tensor, hidden.numpy(), atol=EXACT)


def test_an_encoder_of_the_components_own_is_found(distilbert_folder, tmp_path):
    nlp = spacy.blank("en")
    encoder = {"@architectures": "spacy-distil.DistilBert.v1", "name": str(distilbert_folder), "precision": "float32"}
    model = {"@architectures": "spacy-distil.TextCatCls.v1", "exclusive_classes": False, "tok2vec": encoder}
    nlp.add_pipe("textcat_multilabel", config={"model": model})
    nlp.config["initialize"]["components"]["textcat_multilabel"] = {"labels": TOPICS}
    nlp.initialize()
    prepare_export(nlp).write(tmp_path / "written")
    classify = pipeline("text-classification", model=str(tmp_path / "written"))
    scores = {row["label"]: row["score"] for row in classify(TEXTS[1], top_k=None)}
    assert nlp(TEXTS[1]).cats == pytest.approx(scores, abs=EXACT)


def test_which_component_has_to_be_said_where_there_are_several(build):
    nlp = build("distilbert")
    nlp.add_pipe("textcat", name="other", config={"model": nlp.get_pipe_config("textcat")["model"]})
    nlp.config["initialize"]["components"]["other"] = {"labels": TOPICS}
    nlp.initialize()
    with pytest.raises(ExportError, match=r"2 components .*: textcat, other\. .*--component"):
        prepare_export(nlp)
    with pytest.raises(ExportError, match=r"no component 'x'\. It has distilbert, textcat, other"):
        prepare_export(nlp, "x")


def test_a_pipeline_without_an_encoder_has_nothing_to_write(tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("tagger")
    nlp.initialize(lambda: [spacy.training.Example.from_dict(Doc(nlp.vocab, ["a"]), {"tags": ["A"]})])
    with pytest.raises(ExportError, match="no component that Hugging Face's classes know"):
        prepare_export(nlp)
    with pytest.raises(ExportError, match=r"'tagger' neither has an encoder"):
        prepare_export(nlp, "tagger")


def test_a_shape_that_hugging_face_has_no_words_for_is_an_error(save_checkpoint, tmp_path):
    folder = save_checkpoint("bert", layer_norm_eps=1e-5)
    nlp = spacy.blank("en")
    nlp.add_pipe("distilbert", config={"model": {"name": str(folder), "layers": [0, 1]}})
    nlp.initialize()
    with pytest.raises(CheckpointError, match="layer_norm_eps"):
        prepare_export(nlp).write(tmp_path / "written")
    assert not list(tmp_path.iterdir())
