"""`…ForSequenceClassification`: one row of scores a text, as `textcat_exclusive` or `textcat_multilabel`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from spacy.language import Language
from spacy.pipeline import TextCategorizer
from spacy.pipeline.textcat_multilabel import MultiLabel_TextCategorizer
from thinc.api import Model

from spacy_distil.encoder.shim import DistilBertShim, to_checkpoint
from spacy_distil.errors import CheckpointError
from spacy_distil.hub.encoders import as_family, without_pooler
from spacy_distil.hub.heads.head import Run, Setting, initialize, labels_to_config, sigmoid, softmax
from spacy_distil.hub.labels import read_labels, warn_of_numbers
from spacy_distil.hub.model import HubFolder, HubModel
from spacy_distil.hub.names import SEQUENCE_CLASSIFICATION, Family, to_hf, to_own
from spacy_distil.hub.parameters import get_parameters, set_parameters
from spacy_distil.pipeline.sentiment import find_poles

SUFFIX = "ForSequenceClassification"
SINGLE, MULTI = "single_label_classification", "multi_label_classification"
ACTIVATIONS = {"bert": "tanh", "distilbert": "relu"}  # below the classifier
FAMILIES: dict[str, Family] = {"tanh": "bert", "relu": "distilbert"}
DROPOUTS = {"bert": ("classifier_dropout", "hidden_dropout_prob"), "distilbert": ("seq_classif_dropout",)}


def add(nlp: Language, source: HubModel, setting: Setting) -> str:
    parameters = to_own(SEQUENCE_CLASSIFICATION[source.family], source.weights, source.where)
    n_rows = len(parameters["output.W"])
    is_multi = _is_multi_label(source, n_rows)
    labels = read_labels(source.config, n_rows, setting.labels, source.where)
    warn_of_numbers(labels, source.where)
    factory = "textcat_multilabel" if is_multi else "textcat_exclusive"
    name = setting.name or factory
    dropouts = [source.config.get(key) for key in DROPOUTS[source.family]]
    model = {
        "@architectures": "spacy-distil.TextCatCls.v1",
        "exclusive_classes": not is_multi,
        "activation": ACTIVATIONS[source.family],
        "dropout": next((rate for rate in dropouts if rate is not None), 0.2),
        "tok2vec": {"@architectures": "spacy-distil.DistilBertListener.v1"},
    }
    setting.add_encoder(nlp, source, pooling="mean")
    nlp.add_pipe(factory, name=name, config={"model": model})
    initialize(nlp, name, labels)
    set_parameters(_layers(nlp.get_pipe(name)), parameters, source.where)
    if is_multi and find_poles(labels) is not None:
        nlp.add_pipe("doc_sentiment")
    if not is_multi:
        nlp.config["training"]["score_weights"] = {f"{name}_macro_f": 1.0}
    return name


def _is_multi_label(source: HubModel, n_rows: int) -> bool:
    problem: Any = source.config.get("problem_type")
    if problem == "regression" or (n_rows == 1 and problem != MULTI):
        raise CheckpointError(
            f"{source.where} is a regression (problem_type = {problem!r}, {n_rows} outputs): its head gives a number, not the "
            "probability of a label, and spaCy has no component for that. Supported are single_label_classification and "
            "multi_label_classification."
        )
    if problem not in (None, SINGLE, MULTI):
        raise CheckpointError(
            f"{source.where} has problem_type = {problem!r} in its config.json. Supported are {SINGLE} and {MULTI}."
        )
    return problem == MULTI


def can_write(pipe: Any) -> bool:
    return isinstance(pipe, TextCategorizer) and "activation" in pipe.model.attrs


def write(pipe: Any, shim: DistilBertShim) -> HubFolder:
    checkpoint = to_checkpoint(shim)
    family = FAMILIES[pipe.model.attrs["activation"]]
    names = SEQUENCE_CLASSIFICATION[family]
    is_multi = isinstance(pipe, MultiLabel_TextCategorizer)
    notes = []
    if family != checkpoint.config.model_type:
        notes.append(
            f"The head is that of {_class(family)}, so the encoder is written as such. For a single segment it gives the same "
            "numbers."
        )
    return HubFolder(
        checkpoint=without_pooler(as_family(checkpoint, family)),
        architecture=_class(family),
        config={"problem_type": MULTI if is_multi else SINGLE, **labels_to_config(pipe.labels)},
        head=to_hf(names, get_parameters(_layers(pipe), names)),
        notes=tuple(notes),
    )


def difference(nlp: Language, name: str, texts: Sequence[str], run: Run) -> float:
    pipe: Any = nlp.get_pipe(name)
    activate = sigmoid if isinstance(pipe, MultiLabel_TextCategorizer) else softmax
    return max(
        float(np.abs(activate(run(doc.text)["logits"]) - [doc.cats[label] for label in pipe.labels]).max())
        for doc in nlp.pipe(texts)
    )


def _layers(pipe: Any) -> dict[str, Model]:
    output: Model = pipe.model.get_ref("output_layer")
    return {"hidden": pipe.model.get_ref("hidden"), "output": output.layers[0] if output.layers else output}


def _class(family: Family) -> str:
    return f"{'Bert' if family == 'bert' else 'DistilBert'}{SUFFIX}"
