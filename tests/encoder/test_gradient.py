"""`spacy-distil.ScaledGradient.v1`."""

from __future__ import annotations

import numpy as np
import pytest
import spacy
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Model

from spacy_distil.encoder.gradient import ScaledGradient


def ones(width: int) -> tuple[Model, list]:
    """A layer that gives ones, and what comes back to it."""
    received: list = []

    def forward(model: Model, docs: list[Doc], is_train: bool):
        return [np.ones((len(doc), width), dtype="f") for doc in docs], lambda d_rows: received.append(d_rows) or []

    return Model("ones", forward, dims={"nO": width}), received


@pytest.mark.parametrize("factor", [0.0, 0.1, 1.0])
def test_rows_stay_and_their_gradient_is_multiplied(factor: float) -> None:
    layer, received = ones(3)
    model = ScaledGradient(layer, factor)
    docs = [spacy.blank("en")(text) for text in ("two words", "one")]
    model.initialize(X=docs)
    assert model.get_dim("nO") == 3
    rows, backprop = model.begin_update(docs)
    assert [part.shape for part in rows] == [(2, 3), (1, 3)]
    assert all((part == 1).all() for part in rows)
    assert backprop(rows) == []
    for part in received[0]:
        np.testing.assert_allclose(part, factor)


def test_in_a_pipeline_it_trains_and_comes_back_from_disk(distilbert_folder, tmp_path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("distilbert", config={"model": {"name": str(distilbert_folder), "precision": "float32"}})
    listener = {"@architectures": "spacy-distil.DistilBertListener.v1"}
    scaled = {"@architectures": "spacy-distil.ScaledGradient.v1", "factor": 0.0, "tok2vec": listener}
    ner = {"@architectures": "spacy.TransitionBasedParser.v2", "state_type": "ner", "extra_state_tokens": False}
    ner.update(hidden_width=16, maxout_pieces=2, use_upper=False, tok2vec=scaled)
    nlp.add_pipe("ner", config={"model": ner})
    text = "The film was made in Berlin"
    examples = [Example.from_dict(nlp.make_doc(text), {"entities": [(21, 27, "GPE")]})]
    optimizer = nlp.initialize(lambda: examples)
    optimizer.L2 = 0.0  # weight decay would change the encoder too
    before = nlp(text).tensor
    losses = [nlp.update(examples, sgd=optimizer, drop=0.0)["ner"] for _ in range(20)]
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(nlp(text).tensor, before, atol=1e-5)
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    rows = [pipeline.get_pipe("ner").model.get_ref("tok2vec").predict([pipeline(text)]) for pipeline in (nlp, loaded)]
    np.testing.assert_allclose(rows[0][0], rows[1][0], atol=1e-5)
