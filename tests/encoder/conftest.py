from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import spacy
from spacy.tokens import Doc
from thinc.api import Model

from spacy_distil.encoder.model import DistilBert

MakeEncoder = Callable[..., Model]
nlp = spacy.blank("en")


@pytest.fixture(scope="session")
def make_doc() -> Callable[[str], Doc]:
    return nlp.make_doc


@pytest.fixture
def make_encoder(folder: Path) -> MakeEncoder:
    """An initialised encoder of the random checkpoint `folder`, in float32 where nothing else is said."""

    def make(**options) -> Model:
        model = DistilBert(**{"name": str(folder), "precision": "float32", **options})
        model.initialize()
        return model

    return make
