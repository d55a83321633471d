"""Random heads on the embedded weights, as a BERT and as a DistilBERT: reviews get the scores that transformers gives them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from spacy_distil.encoder.checkpoint import find_folder, load_checkpoint, write_checkpoint
from spacy_distil.hub.exporting import prepare_export
from spacy_distil.hub.importing import import_model
from tests.conftest import EMBEDDED
from tests.hub.conftest import EXACT, FAMILIES, TAGS, TOPICS, names

pytestmark = pytest.mark.weights
REVIEWS = Path(__file__).parents[2] / "assets" / "reviews.jsonl"
TEXTS = [json.loads(line)["text"] for line in REVIEWS.read_text(encoding="utf8").splitlines()[:8]]


@pytest.fixture(scope="module")
def save(tmp_path_factory: pytest.TempPathFactory):
    def make(model_type: str, head: str, **config) -> Path:
        folder = tmp_path_factory.mktemp(head)
        source = find_folder(EMBEDDED)
        if model_type == "distilbert":
            checkpoint = load_checkpoint(EMBEDDED, layers=range(6))
            source = folder / "encoder"
            write_checkpoint(source, checkpoint.build(), checkpoint.tokenizer)
        torch.manual_seed(0)
        model = getattr(transformers, f"{FAMILIES[model_type]}For{head}").from_pretrained(source, **config)
        for part, std in (("classifier", 0.3), ("pre_classifier", 0.3), ("qa_outputs", 1.0)):
            if hasattr(model, part):
                torch.nn.init.normal_(getattr(model, part).weight, std=std)
        model.save_pretrained(folder / "model")
        transformers.AutoTokenizer.from_pretrained(source).save_pretrained(folder / "model")
        return folder / "model"

    return make


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
def test_texts_are_classified_as_by_transformers(save, model_type, problem):
    folder = save(model_type, "SequenceClassification", id2label=names(TOPICS), problem_type=problem)
    nlp, _ = import_model(str(folder))
    classify = transformers.pipeline("text-classification", model=str(folder))
    for text in TEXTS:
        assert nlp(text).cats == pytest.approx({r["label"]: r["score"] for r in classify(text, top_k=None)}, abs=EXACT)


def test_tokens_are_classified_as_by_transformers(save, model_type):
    folder = save(model_type, "TokenClassification", id2label=names(TAGS))
    nlp, _ = import_model(str(folder))
    classify = transformers.pipeline("token-classification", model=str(folder), ignore_labels=[])
    find = transformers.pipeline("token-classification", model=str(folder), aggregation_strategy="first")
    n_same, n_entities = 0, 0
    for text in TEXTS:
        doc, by_start = nlp(text), {}
        for row in classify(text):
            by_start.setdefault(row["start"], float(row["score"]))
        compared = [token for token in doc if token.idx in by_start]
        assert len(compared) > 0.9 * len(doc)
        assert [doc._.entity_scores[token.i] for token in compared] == pytest.approx(
            [by_start[token.idx] for token in compared], abs=EXACT
        )
        expected = {(row["start"], row["end"], row["entity_group"]) for row in find(text)}
        n_same += len(expected & {(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents})
        n_entities += len(expected)
    assert n_same > 0.8 * n_entities  # the rest are words that spaCy and BERT cut otherwise, such as "don't"


def test_masks_are_filled_as_by_transformers(save, model_type):
    folder = save(model_type, "MaskedLM")
    nlp, _ = import_model(str(folder))
    fill = transformers.pipeline("fill-mask", model=str(folder))
    for text in TEXTS:
        words = text.split()
        masked = " ".join(["[MASK]" if i == len(words) // 2 else word for i, word in enumerate(words)])
        (fillings,) = nlp.get_pipe("distilbert_mlm").fill([masked])[0:1][0]
        expected = fill(masked)
        assert [f["score"] for f in fillings] == pytest.approx([row["score"] for row in expected], abs=EXACT)
        assert [f["token"] for f in fillings] == [row["token"] for row in expected]


def test_questions_are_answered_as_by_transformers(save, model_type):
    folder = save(model_type, "QuestionAnswering")
    nlp, name = import_model(str(folder))
    answer = transformers.pipeline("question-answering", model=str(folder))
    for text in TEXTS:
        for question in ("Was the staff kind?", "How much did it cost, and where was it?"):
            expected = answer(question=question, context=text, align_to_words=False, top_k=3)
            (found,) = nlp.get_pipe(name).answer([nlp.make_doc(text)], [question], top_k=3)
            scores = [row["score"] for row in expected]
            assert [a.score for a in found] == pytest.approx(scores, abs=EXACT, rel=0)
            assert [a.score for a in found] == pytest.approx(scores, rel=1e-3, abs=0)  # a random head's are small
            assert [(a.start_char, a.end_char) for a in found] == [(row["start"], row["end"]) for row in expected]


def test_onnx_says_what_the_component_says(save, tmp_path):
    folder = save("distilbert", "SequenceClassification", id2label=names(TOPICS))
    nlp, _ = import_model(str(folder))
    export = prepare_export(nlp)
    export.write(tmp_path / "written")
    assert export.write_onnx(tmp_path / "written", nlp) < 1e-5
