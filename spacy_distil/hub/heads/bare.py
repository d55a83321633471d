"""`…Model`: no head, the encoder alone, as `distilbert`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from spacy.language import Language

from spacy_distil.encoder.shim import DistilBertShim, to_checkpoint
from spacy_distil.hub.encoders import find_encoder, token_rows
from spacy_distil.hub.heads.head import Run, Setting
from spacy_distil.hub.model import HubFolder, HubModel
from spacy_distil.pipeline.distilbert import DistilBert

SUFFIX = "Model"
CLASSES = {"bert": f"Bert{SUFFIX}", "distilbert": f"DistilBert{SUFFIX}"}


def add(nlp: Language, source: HubModel, setting: Setting) -> str:
    setting.add_encoder(nlp, source)
    nlp.initialize()
    return "distilbert"


def can_write(pipe: Any) -> bool:
    return isinstance(pipe, DistilBert)


def write(pipe: Any, shim: DistilBertShim) -> HubFolder:
    checkpoint = to_checkpoint(shim)
    return HubFolder(checkpoint, CLASSES[checkpoint.config.model_type])


def difference(nlp: Language, name: str, texts: Sequence[str], run: Run) -> float:
    shim = find_encoder(nlp, name)
    assert shim is not None
    largest = 0.0
    for doc in map(nlp.make_doc, texts):
        tokens, rows = token_rows(doc, run(doc.text)["last_hidden_state"], shim)
        largest = max(largest, float(np.abs(rows - shim.predict([doc]).tokens.cpu().numpy()[tokens]).max()))
    return largest
