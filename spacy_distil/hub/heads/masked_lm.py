"""`…ForMaskedLM`: scores of the vocabulary for masked pieces, as `distilbert_mlm`, which has an encoder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from spacy.language import Language
from thinc.api import Model

from spacy_distil.encoder.shim import DistilBertShim, to_checkpoint
from spacy_distil.errors import CheckpointError
from spacy_distil.hub.encoders import without_pooler
from spacy_distil.hub.heads.head import Run, Setting, softmax
from spacy_distil.hub.model import HubFolder, HubModel
from spacy_distil.hub.names import DECODERS, MASKED_LM, to_hf, to_own
from spacy_distil.hub.parameters import get_parameters, set_parameters
from spacy_distil.pipeline.masked_lm.component import MaskedLanguageModel
from spacy_distil.pipeline.masked_lm.masking import mask_id

SUFFIX = "ForMaskedLM"
FACTORY = "distilbert_mlm"
CLASSES = {"bert": f"Bert{SUFFIX}", "distilbert": f"DistilBert{SUFFIX}"}


def add(nlp: Language, source: HubModel, setting: Setting) -> str:
    parameters = to_own(MASKED_LM[source.family], source.weights, source.where)
    _check_tied(source)
    name = setting.name or FACTORY
    model = {"@architectures": "spacy-distil.MaskedLM.v1", "encoder": setting.encoder(source)}
    nlp.add_pipe(FACTORY, name=name, config={"model": model})
    nlp.initialize()
    set_parameters(_layers(nlp.get_pipe(name)), parameters, source.where)
    return name


def _check_tied(source: HubModel) -> None:
    decoder = source.weights.get(DECODERS[source.family])
    table = source.weights.get(f"{source.family}.embeddings.word_embeddings.weight")
    if decoder is not None and table is not None and not torch.equal(decoder, table):
        raise CheckpointError(
            f"{source.where} scores the vocabulary by a matrix of its own, {DECODERS[source.family]!r}. Supported are models "
            "that do so by their word embeddings (tie_word_embeddings), as BERT and DistilBERT do."
        )


def can_write(pipe: Any) -> bool:
    return isinstance(pipe, MaskedLanguageModel)


def write(pipe: Any, shim: DistilBertShim) -> HubFolder:
    checkpoint = without_pooler(to_checkpoint(shim))
    family = checkpoint.config.model_type
    head = to_hf(MASKED_LM[family], get_parameters(_layers(pipe), MASKED_LM[family]))
    return HubFolder(checkpoint, CLASSES[family], head=head)


def difference(nlp: Language, name: str, texts: Sequence[str], run: Run) -> float:
    pipe: Any = nlp.get_pipe(name)
    mask, token = mask_id(pipe.tokenizer), pipe.tokenizer.special_tokens["mask_token"]
    largest = 0.0
    for text in (f"{text} {token}" for text in texts):
        (encoding,) = pipe.tokenizer.encode([text])
        rows = softmax(run(text)["logits"][1:-1][np.array(encoding.ids) == mask])
        for row, fillings in zip(rows, pipe.fill([text])[0], strict=True):
            largest = max(largest, *(abs(float(row[filling["token"]]) - filling["score"]) for filling in fillings))
    return largest


def _layers(pipe: Any) -> dict[str, Model]:
    return {"head": pipe.model}
