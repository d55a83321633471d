"""From Docs to token vectors: equal to transformers on the same pieces, whatever the Docs and the batches."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from spacy.tokens import Doc
from spacy.vocab import Vocab
from thinc.api import Model

from spacy_distil.encoder.inference import InferencePlan
from spacy_distil.encoder.model import ROWS, DistilBert, get_shim
from spacy_distil.encoder.tokenizer import PieceTokenizer
from spacy_distil.errors import EncoderError
from tests.conftest import TEXTS
from tests.encoder.reference import FLOAT32, Reference, relative_error

WINDOW, OVERLAP = 20, 6
# Tokens of more pieces than an overlap and than a window, and tokens without one.
LONG_WORDS = ["-".join("abcdefgh" * 4), "the", "\n\n", "film", "-" * 9, "\u0301", "unbelievably", "of", "-" * 30]


@pytest.fixture
def docs(make_doc) -> list[Doc]:
    """Docs within a window and far beyond, without a token, without a piece."""
    texts = [*TEXTS, "", " \n\t ", "\u200b\u0007", " ".join(TEXTS * 3), "\u0301 " + "great film " * 30, "x" * 500]
    words = Doc(Vocab(), words=LONG_WORDS * 3)
    return [*(make_doc(text) for text in texts), words]


def vectors(model: Model, docs: list[Doc]) -> list[torch.Tensor]:
    return [torch.from_numpy(rows) for rows in model.predict(docs)]


def assert_equal(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    assert [rows.shape for rows in actual] == [rows.shape for rows in expected]
    assert relative_error(torch.cat(actual), torch.cat(expected)) < FLOAT32


@pytest.fixture
def reference(folder, docs) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    with torch.no_grad():
        return Reference(folder, window=WINDOW, overlap=OVERLAP)(docs)


@pytest.mark.parametrize("max_batch_pieces", [1, 50, 100_000])
def test_token_vectors_equal_transformers(make_encoder, docs, reference, max_batch_pieces):
    model = make_encoder(window=WINDOW, overlap=OVERLAP, max_batch_pieces=max_batch_pieces)
    assert_equal(vectors(model, docs), [tokens[-1] for tokens in reference[0]])


@pytest.mark.parametrize("max_batch_pieces", [1, 50, 100_000])
def test_every_layer_equals_transformers(make_encoder, docs, reference, max_batch_pieces):
    model = make_encoder(window=WINDOW, overlap=OVERLAP, max_batch_pieces=max_batch_pieces)
    encoded = get_shim(model).predict(docs, layers=True)
    assert encoded.lengths == [len(doc) for doc in docs]
    layers, expected = encoded.layers, torch.cat(reference[0], dim=1)
    assert layers is not None
    for actual, of_layer in zip(layers, expected, strict=True):
        assert relative_error(actual, of_layer) < FLOAT32
    assert torch.equal(layers[-1], encoded.tokens)


def test_cls_is_the_mean_of_its_windows(make_encoder, docs, reference):
    model = make_encoder(window=WINDOW, overlap=OVERLAP, max_batch_pieces=50)
    model.attrs[ROWS] = "cls"
    assert_equal(vectors(model, docs), [cls[-1:] for cls in reference[1]])


def test_a_window_is_no_longer_than_the_checkpoint_has_positions(make_encoder, docs, folder):
    with torch.no_grad():
        tokens, _ = Reference(folder, window=64, overlap=OVERLAP)(docs)
    assert_equal(vectors(make_encoder(window=512, overlap=OVERLAP), docs), [states[-1] for states in tokens])


def test_training_encodes_as_prediction_does(make_encoder, docs):
    model = make_encoder(window=WINDOW, overlap=OVERLAP, max_batch_pieces=50)
    trained, _ = model.begin_update(docs)
    assert_equal([torch.from_numpy(rows) for rows in trained], vectors(model, docs))


def test_a_doc_alone_is_encoded_as_among_others(make_encoder, docs):
    model = make_encoder(window=WINDOW, overlap=OVERLAP, max_batch_pieces=50)
    alone = [vectors(model, [doc])[0] for doc in docs]
    assert_equal(vectors(model, docs[::-1])[::-1], alone)


def test_tokens_without_pieces_are_zeros_and_all_others_are_not(make_encoder, make_doc):
    doc = make_doc("the \n\n film\u0301 \u200b \u0301 bad")
    (rows,) = make_encoder(window=WINDOW, overlap=OVERLAP).predict([doc])
    assert [token.text for token, row in zip(doc, rows, strict=True) if not row.any()] == ["\n\n ", "\u200b", "\u0301"]


def test_no_docs_and_docs_without_tokens(make_encoder, make_doc):
    model = make_encoder()
    assert model.predict([]) == []
    assert [rows.shape for rows in model.predict([make_doc(""), make_doc("")])] == [(0, 32), (0, 32)]
    for docs in ([make_doc("")], [make_doc(" \n"), make_doc("")]):
        rows, backprop = model.begin_update(docs)
        backprop([np.ones_like(row) for row in rows])
    assert not any(
        parameter.grad is not None and parameter.grad.any() for parameter in get_shim(model).encoder.parameters()
    )


def test_no_more_pieces_than_the_budget_are_encoded_at_once(make_encoder, docs, monkeypatch):
    sizes: list[int] = []
    last, budget = InferencePlan.last, 50

    def spy(plan, packed):
        sizes.append(len(packed.ids))
        return last(plan, packed)

    monkeypatch.setattr(InferencePlan, "last", spy)
    make_encoder(window=WINDOW, overlap=OVERLAP, max_batch_pieces=budget).predict(docs * 3)
    assert max(sizes) <= budget
    assert min(sizes[:-1]) > budget - WINDOW, "and the budget is used"


def test_one_batch_of_docs_is_tokenised_in_one_call(make_encoder, docs, monkeypatch):
    calls: list[int] = []
    encode = PieceTokenizer.encode

    def spy(tokenizer, texts):
        calls.append(len(texts))
        return encode(tokenizer, texts)

    monkeypatch.setattr(PieceTokenizer, "encode", spy)
    make_encoder(window=WINDOW, overlap=OVERLAP).predict(docs)
    assert calls == [len(docs)]


def test_prediction_is_deterministic(make_encoder, docs):
    model = make_encoder(window=WINDOW, overlap=OVERLAP)
    first, second = vectors(model, docs), vectors(model, docs)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_bfloat16_token_vectors_stay_within_their_bound(make_encoder, docs):
    """Each token's cosine over 0.999, each value within 0.1, of values up to 4."""
    exact, rough = (
        torch.cat(vectors(make_encoder(window=WINDOW, overlap=OVERLAP, precision=precision), docs))
        for precision in ("float32", "bfloat16")
    )
    has_piece = exact.any(dim=1)
    assert torch.cosine_similarity(exact, rough)[has_piece].min() > 0.999
    assert (exact - rough).abs().max() < 0.1
    assert not torch.equal(exact, rough)


# Errors


def test_an_encoder_without_weights_says_how_to_get_them(make_doc, tmp_path):
    model = DistilBert("some/name")
    shim = get_shim(model)
    for use in (
        lambda: model.predict([make_doc("the")]),
        lambda: model.begin_update([make_doc("the")]),
        lambda: shim.to_disk(tmp_path / "encoder.safetensors"),
    ):
        with pytest.raises(EncoderError, match=r"no weights yet. Call `nlp\.initialize\(\)`, which loads 'some/name'"):
            use()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": -1}, "overlap = -1 has to be at least 0"),
        ({"window": 20, "overlap": 18}, "overlap = 18 .* smaller than window - 2 = 18"),
        ({"max_batch_pieces": 0}, "max_batch_pieces = 0 has to be at least 1"),
    ],
)
def test_options_that_can_not_work_are_refused_at_once(options, message):
    with pytest.raises(EncoderError, match=message):
        DistilBert(**options)


def test_an_overlap_as_long_as_the_checkpoints_positions_is_refused_when_it_is_loaded(make_encoder):
    assert make_encoder(window=512, overlap=61)
    with pytest.raises(
        EncoderError, match=r"overlap = 62 is too large for an encoder of 64 positions.* smaller than 62"
    ):
        make_encoder(window=512, overlap=62)


def test_a_window_longer_than_the_checkpoints_positions_is_refused_but_for_the_default(make_encoder):
    assert make_encoder(window=64)
    assert get_shim(make_encoder()).window == 64
    message = r"window = 65 is more than the encoder has positions, 64: set it to at most 64"
    with pytest.raises(EncoderError, match=message):
        make_encoder(window=65)


def test_an_encoder_that_was_saved_with_such_a_window_loads_with_a_warning(make_encoder, tmp_path):
    get_shim(make_encoder()).to_disk(tmp_path / "model.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        get_shim(DistilBert()).from_disk(tmp_path / "model.safetensors")
    with pytest.warns(UserWarning, match="window = 1024 is more than the encoder has positions, 64"):
        shim = get_shim(DistilBert(window=1024)).from_disk(tmp_path / "model.safetensors")
    assert shim.window == 64


def test_a_model_around_it_of_another_width_is_an_error(folder):
    model = DistilBert(str(folder))
    model.set_dim("nO", 48)
    with pytest.raises(EncoderError, match="is 32 wide, and the model around it expects 48"):
        model.initialize()


def test_another_architecture_has_no_encoder():
    with pytest.raises(
        EncoderError, match=r"needs a model of the architecture spacy-distil\.DistilBert\.v1, not 'other'"
    ):
        get_shim(Model("other", lambda model, X, is_train: (X, lambda dY: dY)))


def test_weights_are_loaded_once(make_encoder, folder):
    model = make_encoder()
    with torch.no_grad():
        get_shim(model).encoder.embeddings.LayerNorm.bias.zero_()
    model.initialize()
    assert not get_shim(model).encoder.embeddings.LayerNorm.bias.any()
