"""Sequences of piece ids that a component makes itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from spacy_distil.encoder.model import DistilBert, get_shim
from spacy_distil.encoder.sequences import Sequences
from spacy_distil.encoder.shim import LAST, DistilBertShim
from spacy_distil.errors import EncoderError

IDS = [[2, 10, 11, 3, 12, 3], [2, 3], [2, *range(20, 40), 3, 41, 42, 3], [2, 50, 3], [2, 51, 3, 7, 8, 3]]
TYPES = [[0, 0, 0, 0, 1, 1], [0, 0], [0] * 22 + [1] * 3, [0, 0, 0], [0, 0, 0, 1, 1, 1]]


def make_shim(folder: Path, **options: object) -> DistilBertShim:
    model = DistilBert(name=str(folder), **{"precision": "float32", "max_batch_pieces": 12, **options})  # type: ignore[arg-type]
    model.initialize()
    return get_shim(model)


def test_hidden_states_equal_those_of_transformers_with_token_types(folder: Path) -> None:
    shim = make_shim(folder)
    hidden = shim.predict_sequences(Sequences.from_lists(IDS, TYPES)).split([len(ids) for ids in IDS])
    reference = AutoModel.from_pretrained(folder).eval()
    for rows, ids, types in zip(hidden, IDS, TYPES, strict=True):
        inputs = {"input_ids": torch.tensor([ids])}
        if shim.encoder.config.n_types:
            inputs["token_type_ids"] = torch.tensor([types])
        with torch.no_grad():
            expected = reference(**inputs).last_hidden_state[0]
        torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_equal_those_of_one_unpacked_pass(folder: Path, checkpointing: bool) -> None:
    shim = make_shim(folder, gradient_checkpointing=checkpointing)
    sequences = Sequences.from_lists(IDS, TYPES)
    hidden, backprop = shim.begin_update_sequences(sequences, dropout=False)
    torch.testing.assert_close(hidden, shim.predict_sequences(sequences), rtol=1e-4, atol=1e-5)
    d_hidden = torch.randn(hidden.shape)
    backprop(d_hidden)
    got = {name: parameter.grad for name, parameter in shim.encoder.named_parameters()}

    reference = AutoModel.from_pretrained(folder).eval()
    outputs = []
    for ids, types in zip(IDS, TYPES, strict=True):
        inputs = {"input_ids": torch.tensor([ids])}
        if shim.encoder.config.n_types:
            inputs["token_type_ids"] = torch.tensor([types])
        outputs.append(reference(**inputs).last_hidden_state[0])
    torch.autograd.backward([torch.cat(outputs)], [d_hidden])
    words = reference.embeddings.word_embeddings.weight.grad
    torch.testing.assert_close(got["embeddings.word_embeddings.weight"], words, rtol=1e-3, atol=1e-4)


def test_states_of_layers_are_those_of_transformers(folder: Path) -> None:
    shim, sequences = make_shim(folder), Sequences.from_lists(IDS)
    reference = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        outputs = [reference(torch.tensor([ids]), output_hidden_states=True).hidden_states for ids in IDS]
    expected = torch.stack([torch.cat([states[i][0] for states in outputs]) for i in (3, 0, 4)])
    torch.testing.assert_close(shim.predict_states(sequences, [3, 0, LAST]), expected, rtol=1e-4, atol=1e-5)
    states, _ = shim.begin_update_states(sequences, [3, 0, LAST], dropout=False)
    torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-5)
    assert shim.predict_states(sequences, []).shape == (0, sum(map(len, IDS)), 32)


def test_gradients_of_states_of_layers_add_up(folder: Path) -> None:
    sequences, d_states = Sequences.from_lists(IDS), torch.randn(3, sum(map(len, IDS)), 32)

    def gradient(layers: list[int], d_states: torch.Tensor) -> torch.Tensor:
        shim = make_shim(folder)
        shim.begin_update_states(sequences, layers, dropout=False)[1](d_states)
        weight = shim.encoder.embeddings.word_embeddings.weight.grad
        assert weight is not None
        return weight

    parts = [gradient([layer], rows[None]) for layer, rows in zip([1, 2, LAST], d_states, strict=True)]
    whole = gradient([1, 2, LAST], d_states)
    torch.testing.assert_close(whole, parts[0] + parts[1] + parts[2], rtol=1e-3, atol=1e-4)
    assert all(part.abs().max() > 0.01 for part in parts)


def test_frozen_layers_take_no_gradient_of_their_states(folder: Path) -> None:
    shim = make_shim(folder, freeze=2)
    states, backprop = shim.begin_update_states(Sequences.from_lists(IDS), [1, 3], dropout=False)
    backprop(torch.ones_like(states))
    learnt = [any(p.grad is not None for p in layer.parameters()) for layer in shim.encoder.layers]
    assert learnt == [False, False, True, False]


def test_a_frozen_encoder_gives_states_and_takes_no_gradient(folder: Path) -> None:
    shim = make_shim(folder, freeze="all")
    hidden, backprop = shim.begin_update_sequences(Sequences.from_lists(IDS))
    backprop(torch.ones_like(hidden))
    assert all(parameter.grad is None for parameter in shim.encoder.parameters())


def test_no_sequences_are_no_pieces(folder: Path) -> None:
    shim = make_shim(folder)
    assert shim.predict_sequences(Sequences.from_lists([])).shape == (0, 32)
    hidden, backprop = shim.begin_update_sequences(Sequences.from_lists([]))
    assert len(hidden) == 0
    backprop(hidden)


@pytest.mark.parametrize("ids", [[], [2] * 65])
def test_a_sequence_that_does_not_fit_is_an_error(folder: Path, ids: list[int]) -> None:
    with pytest.raises(EncoderError, match=rf"Sequence 1 has {len(ids)} pieces, and the encoder takes 1 to 64"):
        make_shim(folder).predict_sequences(Sequences.from_lists([[2, 3], ids]))
