"""`…ForQuestionAnswering`: where an answer starts and ends, as `distilbert_qa`, which has an encoder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from spacy.language import Language
from thinc.api import Model, to_numpy

from spacy_distil.encoder.shim import DistilBertShim, to_checkpoint
from spacy_distil.errors import CheckpointError
from spacy_distil.hub.encoders import without_pooler
from spacy_distil.hub.heads.head import Run, Setting
from spacy_distil.hub.model import HubFolder, HubModel
from spacy_distil.hub.names import QUESTION_ANSWERING, to_hf, to_own
from spacy_distil.hub.parameters import get_parameters, set_parameters
from spacy_distil.pipeline.question_answering.component import QuestionAnswering

SUFFIX = "ForQuestionAnswering"
FACTORY = "distilbert_qa"
CLASSES = {"bert": f"Bert{SUFFIX}", "distilbert": f"DistilBert{SUFFIX}"}
MAX_ANSWER_LENGTH = 15  # of transformers' pipeline
QUESTION = "Where is it?"


def add(nlp: Language, source: HubModel, setting: Setting) -> str:
    parameters = to_own(QUESTION_ANSWERING[source.family], source.weights, source.where)
    if len(parameters["output.b"]) != 2:
        raise CheckpointError(
            f"{source.where} has a head of {len(parameters['output.b'])} rows, where two are expected: start and end of the "
            "answer."
        )
    name = setting.name or FACTORY
    model = {"@architectures": "spacy-distil.QuestionAnswering.v1", "encoder": setting.encoder(source)}
    nlp.add_pipe(FACTORY, name=name, config={"model": model, "max_answer_length": MAX_ANSWER_LENGTH})
    nlp.initialize()
    set_parameters(_layers(nlp.get_pipe(name)), parameters, source.where)
    return name


def can_write(pipe: Any) -> bool:
    return isinstance(pipe, QuestionAnswering)


def write(pipe: Any, shim: DistilBertShim) -> HubFolder:
    checkpoint = without_pooler(to_checkpoint(shim))
    family = checkpoint.config.model_type
    names = QUESTION_ANSWERING[family]
    return HubFolder(checkpoint, CLASSES[family], head=to_hf(names, get_parameters(_layers(pipe), names)))


def difference(nlp: Language, name: str, texts: Sequence[str], run: Run) -> float:
    pipe: Any = nlp.get_pipe(name)
    largest = 0.0
    for doc in map(nlp.make_doc, texts):
        outputs = run(QUESTION, doc.text)
        said = to_numpy(pipe.model.predict(pipe.make_windows([doc], [[QUESTION]]).sequences))
        expected = np.stack([outputs["start_logits"], outputs["end_logits"]], axis=1)
        largest = max(largest, float(np.abs(said - expected).max()))
    return largest


def _layers(pipe: Any) -> dict[str, Model]:
    return {"output": pipe.model.get_ref("output_layer")}
