"""Removing layers, heads and neurons is exact, and what is left is an encoder like any other."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import spacy
import torch

from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.structured import LayerPart, keep_parts, whole_layers
from spacy_distil.encoder.checkpoint import load_checkpoint, write_checkpoint
from spacy_distil.encoder.config import LayerConfig
from spacy_distil.encoder.shim import to_checkpoint
from spacy_distil.errors import CheckpointError
from tests.compression.conftest import close_head, close_neuron
from tests.conftest import TEXTS
from tests.pipeline.conftest import LISTENER, tagger

SOME = (
    LayerPart(0, (0, 1, 2, 3), tuple(range(48))),
    LayerPart(1, (1, 3), tuple(range(0, 48, 3))),
    LayerPart(2, (2,), (5, 47)),
    LayerPart(3, (0, 1, 2), tuple(range(32))),
)


def tensors(nlp):
    return np.concatenate([doc.tensor for doc in nlp.pipe(TEXTS)])


def prune(shim, parts):
    shim.adopt(keep_parts(to_checkpoint(shim), parts))


@pytest.fixture
def pruned(nlp, shim):
    prune(shim, SOME)
    return nlp


def test_pruning_equals_gates_at_zero(nlp, shim):
    whole = to_checkpoint(shim)
    before = tensors(nlp)
    prune(shim, SOME)
    pruned = tensors(nlp)
    shim.adopt(whole)
    for part in SOME:
        for head in set(range(4)) - set(part.heads):
            close_head(shim, part.layer, head)
        for neuron in set(range(48)) - set(part.neurons):
            close_neuron(shim, part.layer, neuron)
    np.testing.assert_allclose(pruned, tensors(nlp), atol=1e-5)
    assert abs(pruned - before).max() > 0.1


def test_what_never_mattered_can_go(nlp, shim):
    close_head(shim, 1, 0)
    close_neuron(shim, 2, 11)
    before = tensors(nlp)
    whole = whole_layers(shim.encoder.config)
    neurons = tuple(i for i in range(48) if i != 11)
    prune(shim, (whole[0], LayerPart(1, (1, 2, 3), whole[1].neurons), LayerPart(2, whole[2].heads, neurons), whole[3]))
    np.testing.assert_allclose(tensors(nlp), before, atol=1e-5)
    assert [layer.n_heads for layer in shim.encoder.config.layers] == [4, 3, 4, 4]
    assert [layer.ffn_width for layer in shim.encoder.config.layers] == [48, 48, 47, 48]


def test_the_matrices_are_smaller(pruned, shim):
    assert shim.encoder.config.layers == tuple(LayerConfig(len(p.heads), len(p.neurons)) for p in SOME)
    layer = shim.encoder.layers[2]
    assert layer.attention.q_lin.weight.shape == (8, 32)
    assert layer.attention.out_lin.weight.shape == (32, 8)
    assert layer.ffn.lin1.weight.shape == (2, 32)
    assert layer.ffn.lin2.weight.shape == (32, 2)
    assert layer.ffn.lin2.bias.shape == (32,)


def test_fewer_layers_are_those_that_were_asked_for(nlp, shim, distilbert_folder):
    prune(shim, whole_layers(shim.encoder.config, [1, 3]))
    expected = load_checkpoint(str(distilbert_folder), layers=[1, 3])
    for name, value in to_checkpoint(shim).weights.items():
        assert torch.equal(value, expected.weights[name]), name


def test_a_bert_stays_one(build, bert_folder):
    nlp = build(encoder={"name": str(bert_folder)}, tagger=tagger(LISTENER))
    shim = nlp.get_pipe("distilbert").shim
    prune(shim, whole_layers(shim.encoder.config, [0, 2]))
    assert shim.encoder.config.model_type == "bert"
    assert shim.encoder.embeddings.token_type_embeddings.weight.shape == (2, 32)
    assert hasattr(shim.encoder, "pooler")
    assert np.isfinite(tensors(nlp)).all()


def test_it_saves_and_loads_in_another_process(pruned, tmp_path):
    pruned.to_disk(tmp_path / "nlp")
    code = (
        "import sys, spacy, numpy\n"
        "nlp = spacy.load(sys.argv[1])\n"
        "numpy.save(sys.argv[2], numpy.concatenate([doc.tensor for doc in nlp.pipe(sys.argv[3:])]))"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "nlp", tmp_path / "rows.npy", *TEXTS], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "rows.npy"), tensors(pruned), atol=1e-5)


def test_it_copies_and_runs_in_several_processes(pruned):
    copied = spacy.util.load_model_from_config(pruned.config).from_bytes(pruned.to_bytes())
    np.testing.assert_array_equal(tensors(copied), tensors(pruned))
    rows = np.concatenate([doc.tensor for doc in pruned.pipe(TEXTS, n_process=2, batch_size=2)])
    np.testing.assert_allclose(rows, tensors(pruned), atol=1e-5)


def test_it_trains_on(pruned, corpus, shim):
    optimizer = pruned.resume_training()
    optimizer.learn_rate = 0.01
    losses = []
    for _ in range(20):
        losses.append(pruned.update(corpus, sgd=optimizer, drop=0.1)["tagger"])
    assert losses[-1] < losses[0] / 2
    assert shim.encoder.config.layers[2] == LayerConfig(1, 2)


def test_another_pipeline_starts_from_it(pruned, build, tmp_path):
    pruned.to_disk(tmp_path / "nlp")
    nlp = build(encoder={"name": str(tmp_path / "nlp")}, tagger=tagger(LISTENER))
    np.testing.assert_allclose(tensors(nlp), tensors(pruned), atol=1e-5)
    assert nlp.get_pipe("distilbert").shim.encoder.config == pruned.get_pipe("distilbert").shim.encoder.config


def test_what_hugging_face_has_no_words_for_is_not_exported(pruned, shim, tmp_path):
    with pytest.raises(CheckpointError, match="layers differ"):
        write_checkpoint(tmp_path / "out", shim.encoder, shim.tokenizer)


def test_no_layer_loses_all_its_heads_or_neurons(shim):
    whole = whole_layers(shim.encoder.config)
    for kind, part in (("heads", LayerPart(1, (), (0,))), ("neurons", LayerPart(1, (0,), ()))):
        with pytest.raises(CompressionError, match=f"Layer 1 would lose all its {kind}"):
            prune(shim, (whole[0], part))


@pytest.mark.parametrize("layers", [[], [4], [-1, 0], [2, 0], [1, 1]])
def test_layers_that_can_not_be_kept_are_an_error(shim, layers):
    with pytest.raises(CompressionError, match="ascending order, at least one of 0 to 3"):
        whole_layers(shim.encoder.config, layers)
