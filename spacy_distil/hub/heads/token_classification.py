"""`…ForTokenClassification`: one row of scores a token, as `entity_tagger`, or as spaCy's `tagger` where the labels are no
entities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from spacy.language import Language
from spacy.pipeline import Tagger
from thinc.api import Model, to_numpy

from spacy_distil.encoder.shim import DistilBertShim, to_checkpoint
from spacy_distil.errors import CheckpointError
from spacy_distil.hub.encoders import find_encoder, is_encoder, token_rows, without_pooler
from spacy_distil.hub.heads.head import Run, Setting, initialize, labels_to_config, softmax
from spacy_distil.hub.labels import are_numbers, read_labels
from spacy_distil.hub.model import HubFolder, HubModel
from spacy_distil.hub.names import TOKEN_CLASSIFICATION, to_hf, to_own
from spacy_distil.hub.parameters import get_parameters, set_parameters
from spacy_distil.pipeline.entity_tagger import EntityTagger
from spacy_distil.pipeline.entity_tags import OUTSIDE, EntityTags

SUFFIX = "ForTokenClassification"
MEAN = (
    "The model scores pieces, and this component's tokens have the mean of their pieces: take the mean of the logits of a "
    "token's pieces, which is exactly what the component scores."
)
CLASSES = {"bert": f"Bert{SUFFIX}", "distilbert": f"DistilBert{SUFFIX}"}


def add(nlp: Language, source: HubModel, setting: Setting) -> str:
    parameters = to_own(TOKEN_CLASSIFICATION[source.family], source.weights, source.where)
    labels = read_labels(source.config, len(parameters["output.W"]), setting.labels, source.where)
    if are_numbers(labels):
        raise CheckpointError(
            f"{source.where} does not say what its labels mean ({', '.join(labels)}), so neither which of them are entities. "
            "Name them in this order by --labels, as in --labels O,B-PER,I-PER: B- and I- (or B-, I-, L-, U-, or B-, I-, E-, "
            "S-) make entities, and so do plain names beside an O; other names become token.tag_."
        )
    is_entities = OUTSIDE in labels or EntityTags(tuple(labels)).has_positions
    factory = "entity_tagger" if is_entities else "tagger"
    name = setting.name or factory
    listener = {"@architectures": "spacy-distil.DistilBertListener.v1"}
    model = {"@architectures": "spacy.Tagger.v2", "normalize": False, "tok2vec": listener}
    setting.add_encoder(nlp, source, pooling="first")
    nlp.add_pipe(factory, name=name, config={"model": model})
    initialize(nlp, name, labels)
    set_parameters(_layers(nlp.get_pipe(name)), parameters, source.where)
    return name


def can_write(pipe: Any) -> bool:
    """Whether it is a tagger whose model is one layer on the encoder."""
    if type(pipe) not in (Tagger, EntityTagger):
        return False
    first, *rest = pipe.model.layers
    return is_encoder(first) and [layer.name for layer in rest] == ["with_array(softmax)"]


def write(pipe: Any, shim: DistilBertShim) -> HubFolder:
    checkpoint = to_checkpoint(shim)
    family = checkpoint.config.model_type
    names = TOKEN_CLASSIFICATION[family]
    return HubFolder(
        checkpoint=without_pooler(checkpoint),
        architecture=CLASSES[family],
        config=labels_to_config(pipe.labels),
        head=to_hf(names, get_parameters(_layers(pipe), names)),
        notes=() if shim.options.pooling == "first" else (MEAN,),
    )


def difference(nlp: Language, name: str, texts: Sequence[str], run: Run) -> float:
    pipe: Any = nlp.get_pipe(name)
    shim = find_encoder(nlp, name)
    assert shim is not None
    largest = 0.0
    for doc in nlp.pipe(texts):
        tokens, logits = token_rows(doc, run(doc.text)["logits"], shim)
        said = to_numpy(pipe.model.predict([doc])[0])[tokens]
        largest = max(largest, float(np.abs(softmax(logits) - softmax(said)).max()))
    return largest


def _layers(pipe: Any) -> dict[str, Model]:
    return {"output": pipe.model.get_ref("output_layer")}
