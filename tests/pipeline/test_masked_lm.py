"""The component `distilbert_mlm`: it fills masks as transformers does, learns from plain texts, and lasts."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Adam
from transformers import pipeline

from spacy_distil.errors import CheckpointError, ComponentError
from spacy_distil.hub.importing import import_model
from spacy_distil.pipeline.masked_lm.component import MaskedLanguageModel
from spacy_distil.pipeline.masked_lm.masking import choose_masks, make_query, mask_id, show_masks
from spacy_distil.pipeline.masked_lm.model import cross_entropy
from tests.conftest import TEXTS
from tests.distillation.gradients import assert_finite_differences
from tests.hub.conftest import EXACT, model_type, save_head

__all__ = ["model_type", "save_head"]
ONE = ["The [MASK] was great.", "[MASK]", "Naïve [MASK] 中国, don't!", "un[MASK] bad"]
TWO = "a [MASK] film of [MASK] London"


@pytest.fixture
def folder(save_head, model_type) -> Path:
    return save_head(model_type, "MaskedLM")


@pytest.fixture
def nlp(folder) -> Language:
    return import_model(str(folder))[0]


@pytest.fixture
def pipe(nlp) -> MaskedLanguageModel:
    return nlp.get_pipe("distilbert_mlm")  # type: ignore[return-value]


def examples(nlp: Language, texts: list[str] = TEXTS) -> list[Example]:
    return [Example(nlp.make_doc(text), nlp.make_doc(text)) for text in texts]


def rounded(doc: Doc) -> list[list[tuple[int, str]]]:
    """Other batches give other last digits."""
    return [[(f["token"], f"{f['score']:.4f}") for f in mask["fillings"]] for mask in doc._.masks]


# Filling


def test_one_mask_is_filled_as_transformers_fills_it(folder, pipe):
    fill = pipeline("fill-mask", model=str(folder), top_k=7)
    for text, masks in zip(ONE, pipe.fill(ONE, top_k=7), strict=True):
        expected = fill(text)
        (fillings,) = masks
        assert [f["score"] for f in fillings] == pytest.approx([row["score"] for row in expected], abs=EXACT)
        assert [(f["token"], f["token_str"]) for f in fillings] == [
            (row["token"], row["token_str"]) for row in expected
        ]


def test_several_masks_are_filled_as_transformers_fills_them(folder, pipe):
    expected = pipeline("fill-mask", model=str(folder))(TWO)
    (masks,) = pipe.fill([TWO])
    assert len(masks) == 2
    for fillings, rows in zip(masks, expected, strict=True):
        assert [f["score"] for f in fillings] == pytest.approx([row["score"] for row in rows], abs=EXACT)


def test_docs_get_their_masks_where_they_stand(nlp, pipe):
    docs = list(nlp.pipe([TWO, "no mask", ""]))
    assert [TWO[mask["start"] : mask["end"]] for mask in docs[0]._.masks] == ["[MASK]", "[MASK]"]
    assert [mask["fillings"] for mask in docs[0]._.masks] == pipe.fill([TWO])[0]
    assert [len(mask["fillings"]) for mask in docs[0]._.masks] == [5, 5]
    assert docs[1]._.masks == docs[2]._.masks == []


def test_a_filling_stands_in_the_text_and_a_continuation_at_its_word(pipe):
    assert pipe._filling("The [MASK] was", 4, 10, 0.5, pipe.tokenizer.tokenizer.token_to_id("film")) == {
        "score": 0.5,
        "token": pipe.tokenizer.tokenizer.token_to_id("film"),
        "token_str": "film",
        "sequence": "The film was",
    }
    wonder = pipe._filling("The wonder [MASK]!", 11, 17, 0.5, pipe.tokenizer.tokenizer.token_to_id("##ful"))
    assert wonder["sequence"] == "The wonderful!"


def test_masks_of_a_text_longer_than_the_window_are_asked_for_in_the_middle_of_one(pipe):
    text = "the film " * 60 + "was [MASK] . " + "London " * 80 + "[MASK]"
    near, last = pipe.fill([text], top_k=1)[0]
    ids = [np.array(pipe.tokenizer.encode([text])[0].ids)]
    at = np.flatnonzero(ids[0] == mask_id(pipe.tokenizer))
    query = make_query(ids, [at], pipe.tokenizer, window=64, overlap=32)
    assert all(length <= 64 for length in query.sequences.lengths)
    sequence, *_ = torch.split(query.sequences.ids, list(query.sequences.lengths))
    row = int(query.rows[0])
    assert sequence[row] == mask_id(pipe.tokenizer)
    assert 16 <= row <= 48
    assert near[0]["score"] > 0 and last[0]["score"] > 0  # noqa: PT018


def test_many_masks_give_what_each_gives_alone(pipe, monkeypatch):
    texts = [*ONE, TWO] * 3
    together = pipe.fill(texts)
    monkeypatch.setattr("spacy_distil.pipeline.masked_lm.component.MASKS_AT_ONCE", 2)
    for one, other in zip(pipe.fill(texts), together, strict=True):
        for fillings, expected in zip(one, other, strict=True):
            assert [f["token"] for f in fillings] == [f["token"] for f in expected]
            assert [f["score"] for f in fillings] == pytest.approx([f["score"] for f in expected], abs=1e-5)


# Masking


def test_masks_are_chosen_as_bert_chooses_them(pipe):
    ids = np.arange(100, 200).repeat(200)
    torch.manual_seed(0)
    masks = choose_masks(ids, pipe.tokenizer, 239, 0.15)
    positions, shown = masks.T
    assert len(masks) == 3000
    assert (np.diff(positions) > 0).all()
    shares = [(shown == mask_id(pipe.tokenizer)).mean(), (shown == ids[positions]).mean()]
    assert shares == pytest.approx([0.8, 0.1], abs=0.02)
    assert (show_masks(ids, masks) != ids).sum() == (shown != ids[positions]).sum()


def test_special_pieces_are_never_chosen_and_a_short_text_has_one_mask(pipe):
    tokenizer = pipe.tokenizer
    special = [tokenizer.tokenizer.token_to_id(token) for token in tokenizer.special_tokens.values()]
    assert choose_masks(np.array([*special, 50]), tokenizer, 239, 0.15)[:, 0].tolist() == [5]
    assert choose_masks(np.array(special), tokenizer, 239, 0.15).shape == (0, 2)
    assert choose_masks(np.array([], dtype=int), tokenizer, 239, 0.15).shape == (0, 2)


# Training


def test_the_gradient_equals_finite_differences(pipe):
    ids = pipe.read(spacy.blank("en").pipe(TEXTS))
    masks = pipe.draw(ids)

    def loss() -> float:
        scores, targets, backprop = pipe.begin_update(ids, masks)
        value, gradient = cross_entropy(scores, targets)
        backprop(gradient)
        return value

    assert_finite_differences(pipe, loss)


def test_word_embeddings_learn_by_both_of_their_uses(pipe):
    table = pipe.shim.encoder.embeddings.word_embeddings.weight
    ids = pipe.read(spacy.blank("en").pipe(TEXTS))
    masks = pipe.draw(ids)
    scores, targets, backprop = pipe.begin_update(ids, masks)
    backprop(cross_entropy(scores, targets)[1])
    step, gradient = 1e-3, table.grad.clone()
    direction = gradient / gradient.norm()
    losses = []
    for sign in (1, -1):
        with torch.no_grad():
            table.add_(sign * step * direction)
            pipe.shim._plan = None
            shown = [show_masks(row, of_text) for row, of_text in zip(ids, masks, strict=True)]
            losses.append(cross_entropy(pipe.predict_masks(shown, [m[:, 0] for m in masks]), targets)[0])
            table.sub_(sign * step * direction)
    assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(float(gradient.norm()), rel=0.02)


def test_it_learns_texts_by_heart(nlp):
    before = nlp.evaluate(examples(nlp))
    optimizer = Adam(0.003)
    history = [nlp.update(examples(nlp), sgd=optimizer)["distilbert_mlm"] for _ in range(200)]
    assert sum(history[-10:]) < 0.6 * sum(history[:10])
    after = nlp.evaluate(examples(nlp))
    assert after["mlm_perplexity"] < 0.5 * before["mlm_perplexity"]
    assert after["mlm_accuracy"] > before["mlm_accuracy"]


def test_a_score_is_the_same_each_time(nlp):
    one, other = (nlp.evaluate(examples(nlp)) for _ in range(2))
    assert (one["mlm_accuracy"], one["mlm_perplexity"]) == (other["mlm_accuracy"], other["mlm_perplexity"])


def test_a_frozen_encoder_stays_while_the_head_learns(folder):
    nlp = spacy.blank("en")
    encoder = {"@architectures": "spacy-distil.DistilBert.v1", "name": str(folder), "freeze": "all"}
    nlp.add_pipe("distilbert_mlm", config={"model": {"encoder": encoder}})
    nlp.initialize()
    pipe: Any = nlp.get_pipe("distilbert_mlm")
    before, head = pipe.shim.to_bytes(), pipe.model.get_param("W").copy()
    nlp.update(examples(nlp), sgd=Adam(0.01))
    assert pipe.shim.to_bytes() == before
    assert not np.allclose(pipe.model.get_param("W"), head)


def test_empty_docs_teach_nothing(nlp):
    assert nlp.update(examples(nlp, [""]), sgd=Adam(0.01))["distilbert_mlm"] == 0.0
    assert "mlm_accuracy" not in nlp.get_pipe("distilbert_mlm").score(examples(nlp, [""]))


# It lasts


def test_it_lasts_on_disk_in_bytes_in_a_pickle_and_in_two_processes(nlp, tmp_path):
    texts = [*ONE, TWO]
    expected = [rounded(doc) for doc in nlp.pipe(texts)]
    nlp.to_disk(tmp_path / "nlp")
    copies = [spacy.load(tmp_path / "nlp"), pickle.loads(pickle.dumps(nlp))]
    copies.append(type(nlp).from_config(nlp.config).from_bytes(nlp.to_bytes()))
    for copy in copies:
        assert [rounded(doc) for doc in copy.pipe(texts)] == expected
    assert [rounded(doc) for doc in nlp.pipe(texts, n_process=2, batch_size=2)] == expected


def test_another_pipeline_starts_from_its_encoder(nlp, tmp_path):
    nlp.update(examples(nlp), sgd=Adam(0.01))
    nlp.to_disk(tmp_path / "nlp")
    other = spacy.blank("en")
    other.add_pipe("distilbert", config={"model": {"name": str(tmp_path / "nlp"), "precision": "float32"}})
    other.initialize()
    expected: Any = nlp.get_pipe("distilbert_mlm")
    for one, two in zip(
        other.get_pipe("distilbert").shim.encoder.parameters(), expected.shim.encoder.parameters(), strict=True
    ):
        assert torch.equal(one, two)


def test_a_damaged_head_is_named(nlp, tmp_path):
    nlp.to_disk(tmp_path / "nlp")
    path = tmp_path / "nlp" / "distilbert_mlm" / "head.safetensors"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CheckpointError, match=r"head\.safetensors.*truncated or damaged"):
        spacy.load(tmp_path / "nlp")


def test_what_can_not_be_is_an_error(pipe):
    with pytest.raises(ComponentError, match=r"masked_fraction = 1\.5"):
        MaskedLanguageModel(pipe.vocab, pipe.model, masked_fraction=1.5)
    without = pipe.tokenizer.special_tokens | {"mask_token": "<mask>"}
    with pytest.raises(ComponentError, match="lacks its mask, '<mask>'"):
        mask_id(type(pipe.tokenizer)(pipe.tokenizer.tokenizer, 64, without))
    with pytest.raises(ComponentError, match=r"'The \[MASK\]' is one text, .* give a list of texts"):
        pipe.fill("The [MASK]")


def test_analyze_pipes_says_what_it_sets(nlp):
    assert nlp.analyze_pipes()["summary"]["distilbert_mlm"]["assigns"] == ["doc._.masks"]


def test_half_of_a_character_is_one_that_is_unknown(pipe: MaskedLanguageModel) -> None:
    assert pipe.fill(["The \ud800 [MASK]"]) == pipe.fill(["The \ufffd [MASK]"])
