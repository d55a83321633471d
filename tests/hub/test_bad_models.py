"""Models that can't be read say why, and what to do."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from spacy_distil.errors import CheckpointError, EncoderError
from spacy_distil.hub.importing import import_model
from tests.hub.conftest import TAGS, TOPICS


def edit_config(folder: Path, **entries: Any) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **entries}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


@pytest.fixture
def classifier(save_head) -> Path:
    return save_head("distilbert", "SequenceClassification", labels=TOPICS)


def fails(folder: Path, message: str, **options: Any) -> None:
    with pytest.raises(CheckpointError, match=message):
        import_model(str(folder), **options)


def test_an_unsupported_head_is_named_with_those_that_are_supported(save_head):
    fails(
        save_head("distilbert", "MultipleChoice"),
        r"DistilBertForMultipleChoice\. Supported are \(Distil\)BertForSequence",
    )


def test_an_unsupported_family_is_named_with_those_that_are_supported(classifier):
    edit_config(classifier, model_type="roberta", architectures=["RobertaForSequenceClassification"])
    fails(classifier, r"architecture 'roberta'\. Supported are 'distilbert' and 'bert'")


def test_a_config_without_an_architecture_asks_for_one(classifier):
    edit_config(classifier, architectures=None)
    fails(classifier, r"architectures = None.*Add it")


def test_labels_without_names_get_numbers_and_a_warning_that_says_how_to_name_them(save_head):
    folder = save_head("bert", "SequenceClassification", num_labels=2)
    with pytest.warns(UserWarning, match=r"LABEL_0, LABEL_1.*--labels name0,name1"):
        nlp, name = import_model(str(folder))
    assert nlp.get_pipe(name).labels == ("LABEL_0", "LABEL_1")
    edit_config(folder, id2label=None, label2id=None)
    with pytest.warns(UserWarning, match="does not say what its labels mean"):
        import_model(str(folder))


def test_tags_without_names_are_an_error_that_says_how_to_name_them(save_head):
    folder = save_head("distilbert", "TokenClassification", num_labels=3)
    fails(folder, r"LABEL_0, LABEL_1, LABEL_2.*--labels O,B-PER,I-PER")
    nlp, name = import_model(str(folder), labels=["O", "B-PER", "I-PER"])
    assert nlp.get_pipe(name).labels == ("O", "B-PER", "I-PER")


def test_another_number_of_labels_than_rows_is_an_error(classifier):
    edit_config(classifier, id2label={"0": "a", "1": "b"})
    fails(classifier, r"head of 3 rows, and its config.json names 2 labels: a, b\. .*--labels")
    fails(classifier, r"head of 3 rows, and --labels names 1 labels: x", labels=["x"])


@pytest.mark.parametrize(
    ("id2label", "message"),
    [
        ({"0": "a", "1": "b", "3": "c"}, r"rows \[0, 1, 3\], which are not 0 to 2"),
        ({"0": "a", "1": "b", "x": "c"}, r"an object from numbers to names"),
        (["a", "b", "c"], r"an object from numbers to names"),
        ({"0": "a", "1": "b", "2": "a"}, r"the label 'a' twice"),
        ({"0": "a", "1": "", "2": "c"}, r"an empty label"),
    ],
)
def test_labels_that_make_no_sense_are_an_error(classifier, id2label, message):
    edit_config(classifier, id2label=id2label)
    fails(classifier, message)


def test_a_regression_is_an_error(save_head):
    fails(
        save_head("bert", "SequenceClassification", num_labels=1), r"is a regression \(problem_type = None, 1 outputs\)"
    )
    fails(
        save_head("distilbert", "SequenceClassification", labels=TOPICS, problem_type="regression"), "is a regression"
    )


def test_a_checkpoint_without_its_head_is_an_error(save_head):
    folder = save_head("distilbert", "TokenClassification", labels=TAGS)
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, folder / "model.safetensors")
    fails(folder, r"lacks 1 of the 2 parameters of its head, such as 'classifier.weight'")


def test_a_head_of_another_width_is_an_error(classifier):
    weights = load_file(classifier / "model.safetensors")
    weights["pre_classifier.weight"] = torch.zeros(32, 16)
    save_file(weights, classifier / "model.safetensors")
    fails(classifier, r"'hidden.W' in the shape \(32, 16\).*\(32, 32\)")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_would_run_code_is_not_read(classifier):
    (classifier / "model.safetensors").unlink()
    with (classifier / "pytorch_model.bin").open("wb") as file:
        pickle.dump({"weights": print}, file)
    fails(classifier, "can't be read as plain weights")


def test_an_old_file_of_plain_weights_is_read(classifier):
    weights = load_file(classifier / "model.safetensors")
    expected = import_model(str(classifier))[0]("The film").cats
    (classifier / "model.safetensors").unlink()
    torch.save(weights, classifier / "pytorch_model.bin")
    assert import_model(str(classifier))[0]("The film").cats == pytest.approx(expected)


def test_an_unknown_language_and_an_unknown_precision_are_errors(classifier):
    fails(classifier, r"no language 'klingon'.*--lang", lang="klingon")
    with pytest.raises(EncoderError, match="int3"):
        import_model(str(classifier), precision="int3")  # type: ignore[arg-type]


def test_a_matrix_of_its_own_over_the_vocabulary_is_an_error(save_head):
    folder = save_head("distilbert", "MaskedLM")
    weights = load_file(folder / "model.safetensors")
    weights["vocab_projector.weight"] = torch.zeros_like(weights["distilbert.embeddings.word_embeddings.weight"])
    save_file(weights, folder / "model.safetensors")
    fails(folder, r"by a matrix of its own, 'vocab_projector\.weight'")


def test_a_bert_of_old_names_is_read(save_head):
    folder = save_head("bert", "MaskedLM")
    expected = import_model(str(folder))[0].get_pipe("distilbert_mlm").fill(["a [MASK]"])
    weights = load_file(folder / "model.safetensors")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma")
        .replace("LayerNorm.bias", "LayerNorm.beta")
        .replace("cls.predictions.bias", "cls.predictions.decoder.bias"): value
        for name, value in weights.items()
    }
    assert old.keys() != weights.keys()
    save_file(old, folder / "model.safetensors")
    assert import_model(str(folder))[0].get_pipe("distilbert_mlm").fill(["a [MASK]"]) == expected


def test_an_answer_has_a_start_and_an_end(save_head):
    fails(save_head("bert", "QuestionAnswering", num_labels=3), "head of 3 rows, where two are expected")


def test_the_head_can_not_have_the_encoders_name(classifier):
    fails(classifier, "called 'distilbert' already", component="distilbert")
