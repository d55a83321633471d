"""Encoder and decoder: against transformers, with and without a cache, gradients against finite differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
import torch.nn.functional as F
from thinc.api import Adam, set_dropout_rate
from transformers import BertConfig, BertLMHeadModel, BertModel, EncoderDecoderModel

from spacy_distil.pipeline.generation.component import Seq2Seq
from spacy_distil.pipeline.generation.loss import smoothed_cross_entropy
from spacy_distil.pipeline.generation.model import get_decoder, get_encoder, shared_words
from spacy_distil.pipeline.generation.module import Decoder
from spacy_distil.pipeline.generation.search import Rules, Search, Stopping, find_texts
from spacy_distil.pipeline.generation.sources import Pairs, Sources
from spacy_distil.pipeline.generation.writing import batches, write
from tests.pipeline.generation import assert_torch_gradients, build, examples

SOURCES = [[10, 11, 12, 13], [20], [30, 31, 32, 33, 34, 35, 36], [40, 41]]


@pytest.fixture(scope="module")
def pipe(bert_folder: Path) -> Seq2Seq:
    return build(bert_folder)[1]


def pairs_of(pipe: Seq2Seq, targets: list[tuple[int, ...]]) -> Pairs:
    sources = Sources.of([[ids] for ids in SOURCES[: len(targets)]], pipe.source_tokenizer)
    return Pairs(sources, tuple(targets))


def to_transformers(pipe: Seq2Seq, encoder: BertModel) -> EncoderDecoderModel:
    """The same weights in transformers' own classes."""
    decoder = get_decoder(pipe.model).decoder
    config = BertConfig(
        vocab_size=decoder.config.vocab_size,
        hidden_size=decoder.config.width,
        num_hidden_layers=decoder.config.n_layers,
        num_attention_heads=decoder.config.n_heads,
        intermediate_size=decoder.config.ffn_width,
        max_position_embeddings=decoder.config.max_positions,
        is_decoder=True,
        add_cross_attention=True,
        bos_token_id=pipe.vocabulary.cls_id,
        eos_token_id=pipe.vocabulary.sep_id,
        pad_token_id=0,
    )
    other = BertLMHeadModel(config)
    other.load_state_dict(to_bert(decoder), strict=False)
    model = EncoderDecoderModel(encoder=encoder, decoder=other).eval()
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = pipe.vocabulary.cls_id
    model.generation_config.eos_token_id = pipe.vocabulary.sep_id
    model.generation_config.pad_token_id = 0
    return model


def to_bert(decoder: Decoder) -> dict[str, torch.Tensor]:
    names = {
        "embeddings": "bert.embeddings",
        "head.dense": "cls.predictions.transform.dense",
        "head.LayerNorm": "cls.predictions.transform.LayerNorm",
        "head.bias": "cls.predictions.bias",
    }
    for i in range(decoder.config.n_layers):
        for own, theirs in (("attention", "attention"), ("cross_attention", "crossattention")):
            for part, name in (("q_lin", "query"), ("k_lin", "key"), ("v_lin", "value")):
                names[f"layer.{i}.{own}.{part}"] = f"bert.encoder.layer.{i}.{theirs}.self.{name}"
            names[f"layer.{i}.{own}.out_lin"] = f"bert.encoder.layer.{i}.{theirs}.output.dense"
        names[f"layer.{i}.sa_layer_norm"] = f"bert.encoder.layer.{i}.attention.output.LayerNorm"
        names[f"layer.{i}.ca_layer_norm"] = f"bert.encoder.layer.{i}.crossattention.output.LayerNorm"
        names[f"layer.{i}.ffn.lin1"] = f"bert.encoder.layer.{i}.intermediate.dense"
        names[f"layer.{i}.ffn.lin2"] = f"bert.encoder.layer.{i}.output.dense"
        names[f"layer.{i}.output_layer_norm"] = f"bert.encoder.layer.{i}.output.LayerNorm"
    weights = {}
    for key, value in decoder.state_dict().items():
        own = next(name for name in names if key == name or key.startswith(f"{name}."))
        weights[names[own] + key[len(own) :]] = value
    weights["cls.predictions.decoder.weight"] = weights["bert.embeddings.word_embeddings.weight"]
    weights["cls.predictions.decoder.bias"] = weights["cls.predictions.bias"]
    weights["bert.embeddings.token_type_embeddings.weight"] = torch.zeros(2, decoder.config.width)
    return weights


@pytest.fixture(scope="module")
def reference(pipe: Seq2Seq, bert_folder: Path) -> EncoderDecoderModel:
    return to_transformers(pipe, BertModel.from_pretrained(bert_folder))


def padded(pipe: Seq2Seq) -> dict[str, torch.Tensor]:
    first, last = pipe.source_tokenizer.cls_id, pipe.source_tokenizer.sep_id
    rows = [torch.tensor([first, *ids, last]) for ids in SOURCES]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return {"input_ids": ids, "attention_mask": mask}


def test_logits_equal_transformers(pipe: Seq2Seq, reference: EncoderDecoderModel) -> None:
    targets = [(5, 6, 7), (8,), (9, 10, 11, 12, 13), (14, 15)]
    logits = pipe.model.predict(pairs_of(pipe, targets))
    start = 0
    for i, target in enumerate(targets):
        inputs = {name: value[i : i + 1] for name, value in padded(pipe).items()}
        inputs = {name: value[:, : len(SOURCES[i]) + 2] for name, value in inputs.items()}
        theirs = reference(**inputs, decoder_input_ids=torch.tensor([[pipe.vocabulary.cls_id, *target]])).logits[0]
        numpy.testing.assert_allclose(logits[start : start + len(theirs)], theirs.detach(), rtol=0, atol=1e-4)
        start += len(theirs)
    assert start == len(logits)


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("no_repeat", [0, 2])
@pytest.mark.parametrize(("n_beams", "length_penalty"), [(1, 1.0), (2, 0.0), (4, 1.0), (4, 2.0)])
def test_texts_equal_those_of_transformers_generate(
    pipe: Seq2Seq,
    reference: EncoderDecoderModel,
    n_beams: int,
    length_penalty: float,
    no_repeat: int,
    early_stopping: Stopping,
) -> None:
    """Source by source: `generate` goes on with a text as long as any other of its batch goes on."""
    found = find(pipe, Search(n_beams, length_penalty, no_repeat, early_stopping=early_stopping), limit=15)
    end = pipe.vocabulary.sep_id
    expected = []
    for source in SOURCES:
        (row,) = reference.generate(
            input_ids=torch.tensor([[pipe.source_tokenizer.cls_id, *source, pipe.source_tokenizer.sep_id]]),
            num_beams=n_beams,
            length_penalty=length_penalty,
            no_repeat_ngram_size=no_repeat,
            max_length=16,
            early_stopping=early_stopping if n_beams > 1 else False,
            do_sample=False,
        ).tolist()
        text = row[1 : row.index(end)] if end in row else row[1:]
        expected.append([piece for piece in text if piece != 0])
    assert found == expected
    assert any(found)


def find(pipe: Seq2Seq, search: Search, limit: int) -> list[list[int]]:
    """Without silent pieces, which transformers does not know of, but for the one that it pads with."""
    sources = Sources.of([[ids] for ids in SOURCES], pipe.source_tokenizer)
    memory = get_encoder(pipe.model).predict_sequences(sources.sequences)
    plan = get_decoder(pipe.model).plan(shared_words(pipe.model))
    writer = plan.start(memory, sources.lengths, n_beams=search.beams, limit=limit)
    rules = Rules(pipe.vocabulary.cls_id, pipe.vocabulary.sep_id, (), search.no_repeat)
    return find_texts(writer, [limit] * len(sources), rules, search)


@pytest.mark.parametrize("n_beams", [1, 3])
def test_texts_with_a_cache_equal_those_without(pipe: Seq2Seq, n_beams: int) -> None:
    """Each step of the cached search is checked against the whole text, decoded anew."""
    sources = Sources.of([[ids] for ids in SOURCES], pipe.source_tokenizer)
    memory = get_encoder(pipe.model).predict_sequences(sources.sequences)
    decoder = get_decoder(pipe.model)
    cached = decoder.plan(None).start(memory, sources.lengths, n_beams=n_beams, limit=10)

    class Checked:
        def __init__(self) -> None:
            self.rows = [(i, [pipe.vocabulary.cls_id]) for i in range(len(SOURCES)) for _ in range(n_beams)]
            self.n_steps = 0

        def step(self, ids: torch.Tensor) -> torch.Tensor:
            if self.n_steps:
                self.rows = [(i, [*text, piece]) for (i, text), piece in zip(self.rows, ids.tolist(), strict=True)]
            self.n_steps += 1
            logits = cached.step(ids)
            whole = torch.from_numpy(
                pipe.model.predict(Pairs(sources.choose([i for i, _ in self.rows]), tuple(t[1:] for _, t in self.rows)))
            )
            last = torch.tensor([len(text) for _, text in self.rows]).cumsum(0) - 1
            torch.testing.assert_close(logits, whole[last], rtol=0, atol=1e-4)
            return logits

        def reorder(self, rows: torch.Tensor) -> None:
            cached.reorder(rows)
            self.rows = [self.rows[row] for row in rows.tolist()]

        def keep(self, kept: torch.Tensor) -> None:
            cached.keep(kept)
            self.rows = [self.rows[i * n_beams + beam] for i in kept.tolist() for beam in range(n_beams)]

    checked = Checked()
    rules = Rules(pipe.vocabulary.cls_id, pipe.vocabulary.sep_id)
    find_texts(checked, [10, 4, 10, 2], rules, Search(n_beams))
    assert checked.n_steps > 4


def test_a_text_in_several_windows_is_attended_to_as_a_whole(pipe: Seq2Seq) -> None:
    windows = Sources.of([[SOURCES[0], SOURCES[2]], [SOURCES[1]]], pipe.source_tokenizer)
    pairs = Pairs(windows, ((5, 6), (7,)))
    logits = pipe.model.predict(pairs)
    other = pipe.model.predict(
        Pairs(Sources.of([[SOURCES[0], SOURCES[3]], [SOURCES[1]]], pipe.source_tokenizer), pairs.targets)
    )
    assert not numpy.allclose(logits[:3], other[:3], atol=1e-3)
    numpy.testing.assert_allclose(logits[3:], other[3:], atol=1e-4)
    assert len(logits) == 5


def test_texts_do_not_depend_on_their_batch(pipe: Seq2Seq) -> None:
    sources = Sources.of([[ids] for ids in SOURCES], pipe.source_tokenizer)
    search = Search(3, max_length=12)
    alone = [write(pipe.model, sources.choose([i]), search)[0] for i in range(len(SOURCES))]
    assert write(pipe.model, sources, search) == alone


def test_batches_hold_like_lengths_within_the_budget() -> None:
    lengths = (9, 2, 30, 3, 2, 8, 3)
    made = batches(lengths, 16, 3)
    assert made == [[1, 4, 3], [6, 5], [0], [2]]


@pytest.mark.parametrize("model", [{}, {"vocabulary": "source"}, {"width": 16, "vocabulary": "source"}])
def test_gradients_are_those_of_finite_differences(distilbert_folder: Path, model: dict[str, Any]) -> None:
    nlp, pipe = build(distilbert_folder, encoder={"layers": [0]}, model={"n_layers": 1, **model})
    made = examples(nlp)
    pairs = pipe.make_pairs([example.predicted for example in made], pipe.find_targets(made))

    def update() -> float:
        losses: dict[str, float] = {}
        pipe.update(made, losses=losses)
        return losses[pipe.name]

    assert_torch_gradients(pipe, update, lambda: pipe.get_loss(pairs, pipe.model.begin_update(pairs)[0])[0])


def test_dropout_applies_in_training_alone(distilbert_folder: Path) -> None:
    nlp, pipe = build(distilbert_folder, model={"dropout": 0.5})
    made = examples(nlp)
    pairs = pipe.make_pairs([example.predicted for example in made], pipe.find_targets(made))
    plain = pipe.model.predict(pairs)
    for rate, is_equal in ((0.0, True), (0.1, False)):
        set_dropout_rate(pipe.model, rate)
        logits, _ = pipe.model.begin_update(pairs)
        assert numpy.allclose(logits, plain, atol=1e-5) is is_equal
    numpy.testing.assert_array_equal(pipe.model.predict(pairs), plain)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_smoothed_cross_entropy_equals_torch(smoothing: float) -> None:
    logits = torch.randn(5, 9, requires_grad=True)
    gold = torch.tensor([0, 8, 3, 3, 1])
    expected = F.cross_entropy(logits, gold, label_smoothing=smoothing, reduction="sum")
    expected.backward()
    loss, gradient = smoothed_cross_entropy(logits.detach().clone(), gold, smoothing)
    assert loss == pytest.approx(expected.item())
    torch.testing.assert_close(gradient, logits.grad)


def test_bfloat16_is_near_float32(bert_folder: Path) -> None:
    made = [
        build(bert_folder, encoder={"precision": precision}, random=False)[1] for precision in ("float32", "bfloat16")
    ]
    pairs = pairs_of(made[0], [(5, 6, 7), (8,), (9, 10, 11, 12, 13), (14, 15)])
    exact, coarse = (pipe.model.predict(pairs) for pipe in made)
    assert 0 < numpy.abs(exact - coarse).max() < 0.1 * numpy.abs(exact).max()


def test_an_encoder_that_is_frozen_still_feeds_a_decoder_that_learns(distilbert_folder: Path) -> None:
    nlp, pipe = build(distilbert_folder, encoder={"freeze": "all"})
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in modules(pipe)]
    nlp.update(examples(nlp), sgd=nlp.create_optimizer())
    encoder, decoder = (
        [torch.equal(v, old[k]) for k, v in m.state_dict().items()]
        for m, old in zip(modules(pipe), before, strict=True)
    )
    assert all(encoder)
    assert not any(decoder)


def test_the_decoder_learns_at_its_own_rate(distilbert_folder: Path) -> None:
    """Adam's first step is as long as the rate, whatever the gradient."""
    steps = []
    for factor in (1.0, 3.0):
        nlp, pipe = build(distilbert_folder, model={"learn_rate_factor": factor})
        before = [m.state_dict() for m in modules(pipe)]
        before = [{k: v.clone() for k, v in state.items()} for state in before]
        optimizer = Adam(0.001, L2=0.0, use_averages=False)
        nlp.update(examples(nlp), sgd=optimizer)
        assert optimizer.learn_rate == 0.001
        name = ("transformer.layer.0.ffn.lin1.weight", "layer.0.ffn.lin1.weight")
        steps.append(
            [
                float((m.state_dict()[k] - old[k]).abs().max())
                for m, old, k in zip(modules(pipe), before, name, strict=True)
            ]
        )
    assert steps[0] == pytest.approx([0.001, 0.001], rel=0.01)
    assert steps[1] == pytest.approx([0.001, 0.003], rel=0.01)


def modules(pipe: Seq2Seq) -> tuple[torch.nn.Module, torch.nn.Module]:
    return get_encoder(pipe.model).encoder, get_decoder(pipe.model).decoder
