"""What the tests of generation share: a tiny pipeline that copies and reverses words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import spacy
import torch
from spacy.language import Language
from spacy.training import Example

from spacy_distil.pipeline.generation.component import Seq2Seq
from spacy_distil.pipeline.generation.model import get_decoder, get_encoder
from tests.conftest import randomize

PAIRS = [
    ("The film was great.", "Der Film war großartig."),
    ("A bad story.", "Eine schlechte Geschichte!"),
    ("London", "London"),
    ("The great actor in Berlin watched the film.", "Der große Schauspieler in Berlin sah den Film."),
]


def examples(nlp: Language, pairs: list[tuple[str, str]] = PAIRS, attribute: str = "translations") -> list[Example]:
    made = []
    for source, target in pairs:
        doc = nlp.make_doc(source)
        reference = doc.copy()
        reference._.set(attribute, [target] if target else [])
        made.append(Example(doc, reference))
    return made


def build(
    folder: Path,
    *,
    encoder: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    random: bool = True,
    pairs: list[tuple[str, str]] = PAIRS,
    **settings: Any,
) -> tuple[Language, Seq2Seq]:
    """A pipeline of the component alone, in float32.

    random: fill the decoder with large random weights.
    """
    spacy.util.fix_random_seed(0)
    nlp = spacy.blank("en")
    block = {"@architectures": "spacy-distil.DistilBert.v1", "name": str(folder), "precision": "float32"}
    architecture = {"n_layers": 2, "vocabulary_size": 60, "max_length": 40, **(model or {})}
    settings = {"model": {**architecture, "encoder": {**block, **(encoder or {})}}, **settings}
    pipe = nlp.add_pipe("distilbert_seq2seq", config=settings)
    attribute = "summaries" if settings.get("target") == "summary" else "translations"
    nlp.initialize(lambda: examples(nlp, pairs, attribute))
    assert isinstance(pipe, Seq2Seq)
    if random:
        torch.manual_seed(1)
        randomize(get_decoder(pipe.model).decoder)
    return nlp, pipe


def assert_torch_gradients(
    pipe: Seq2Seq, update: Callable[[], float], loss: Callable[[], float], *, step: float = 2e-3
) -> None:
    """Whether the gradient that `update` leaves in each parameter is the derivative of `loss`: along the gradient, where a
    difference is largest, and in a direction that has nothing to do with it."""
    encoder, decoder = get_encoder(pipe.model).encoder, get_decoder(pipe.model).decoder
    parameters = [*encoder.named_parameters(), *decoder.named_parameters()]
    assert update() == pytest.approx(loss(), abs=1e-4)
    generator = torch.Generator().manual_seed(0)
    n_checked = 0
    for name, parameter in parameters:
        gradient = parameter.grad
        if gradient is None or not gradient.any():
            continue
        n_checked += 1
        along = gradient / gradient.norm()
        signs = torch.randint(0, 2, along.shape, generator=generator) * 2 - 1
        values = parameter.data.clone()
        for direction in (along, along * signs):
            differences = []
            for sign in (1, -1):
                parameter.data = values + sign * step * direction
                differences.append(sign * loss())
            parameter.data = values
            expected = float((gradient * direction).sum())
            tolerance = 0.03 * float(gradient.norm()) + 1e-3
            assert sum(differences) / (2 * step) == pytest.approx(expected, abs=tolerance), name
    assert n_checked >= len(parameters) - 8  # keys' biases have none, nor has what no text uses
