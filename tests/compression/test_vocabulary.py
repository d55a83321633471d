"""The pieces that a corpus uses stay, under new numbers, and any text can still be read."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from spacy.training import Example
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.processors import BertProcessing
from transformers import AutoModel, AutoTokenizer

from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.slim import slim
from spacy_distil.compression.vocabulary import WORDS, choose_pieces, keep_pieces, renumber
from spacy_distil.encoder.checkpoint import write_checkpoint
from spacy_distil.encoder.shim import to_checkpoint
from spacy_distil.encoder.tokenizer import PieceTokenizer
from spacy_distil.pipeline.references import register_references
from tests.conftest import LETTERS, SPECIAL, TEXTS, VOCABULARY

CORPUS = ["The film was great.", "Unbelievably bad, endless and the plot of a naive story."]
OTHER = ["I watched wonderful London, don't!", "Berlin café 2024 #ta 中国 ü", "zzz☃ believer"]


@pytest.fixture
def used(nlp) -> list[Example]:
    return [Example(nlp.make_doc(text), nlp.make_doc(text)) for text in CORPUS]


def cut(shim, examples, coverage=1.0):
    before = to_checkpoint(shim)
    after = keep_pieces(before, choose_pieces(before.tokenizer, examples, coverage))
    return before, after


def pieces(tokenizer: PieceTokenizer, texts: list[str]) -> list[list[str]]:
    return [encoding.tokens for encoding in tokenizer.encode(texts)]


def test_the_corpus_is_cut_as_before(shim, used):
    before, after = cut(shim, used)
    assert after.config.vocab_size < before.config.vocab_size
    for old, new in zip(before.tokenizer.encode(CORPUS), after.tokenizer.encode(CORPUS), strict=True):
        assert new.tokens == old.tokens
        assert new.offsets == old.offsets


def test_each_piece_keeps_its_vector(shim, used):
    before, after = cut(shim, used)
    old, new = (c.tokenizer.tokenizer.get_vocab(with_added_tokens=True) for c in (before, after))
    assert sorted(new.values()) == list(range(after.config.vocab_size))
    for piece, number in new.items():
        assert torch.equal(after.weights[WORDS][number], before.weights[WORDS][old[piece]])


def test_pieces_keep_their_order_and_the_special_ones_stay(shim, used):
    _, after = cut(shim, used)
    vocabulary = after.tokenizer.tokenizer.get_vocab(with_added_tokens=True)
    assert sorted(vocabulary, key=vocabulary.get) == [piece for piece in VOCABULARY if piece in vocabulary]
    assert set(SPECIAL) <= set(vocabulary)
    assert after.tokenizer.cls_id == vocabulary["[CLS]"]
    assert after.config.pad_id == vocabulary["[PAD]"]
    assert {token.content for token in after.tokenizer.tokenizer.get_added_tokens_decoder().values()} == set(SPECIAL)


def test_text_of_other_words_is_cut_into_shorter_pieces(shim, used):
    before, after = cut(shim, used)
    assert "actor" not in after.tokenizer.tokenizer.get_vocab()
    for old, new in zip(pieces(before.tokenizer, OTHER), pieces(after.tokenizer, OTHER), strict=True):
        assert Counter(new)["[UNK]"] == Counter(old)["[UNK]"]
        assert "".join(p.removeprefix("##") for p in new) == "".join(p.removeprefix("##") for p in old)
    assert len(pieces(after.tokenizer, ["actor"])[0]) == len("actor")


def test_every_letter_stays_at_the_start_of_a_word_and_within(shim, used):
    vocabulary = cut(shim, used)[1].tokenizer.tokenizer.get_vocab()
    assert {*LETTERS, *(f"##{letter}" for letter in LETTERS)} <= set(vocabulary)


def test_coverage_keeps_the_most_frequent(shim, nlp):
    texts = ["the film " * 8 + "the plot", "actor actor end"]
    examples = [Example(nlp.make_doc(text), nlp.make_doc(text)) for text in texts]

    def words(coverage: float) -> set[str]:
        vocabulary = cut(shim, examples, coverage)[1].tokenizer.tokenizer.get_vocab()
        return {"the", "film", "plot", "actor", "end"} & set(vocabulary)

    assert words(1.0) == {"the", "film", "plot", "actor", "end"}
    assert words(19 / 21) == {"the", "film", "actor"}
    assert words(0.5) == {"the", "film"}
    assert words(0.1) == {"the"}


def test_questions_are_read_too(shim, nlp, used):
    register_references()
    assert "watch" not in cut(shim, used)[1].tokenizer.tokenizer.get_vocab()
    used[0].reference._.questions = [{"id": "1", "question": "Did I watch a film?", "answers": []}]
    assert "watch" in cut(shim, used)[1].tokenizer.tokenizer.get_vocab()


def test_the_pipeline_says_the_same_of_the_corpus(nlp, used, shim):
    before = [doc.tensor for doc in nlp.pipe(CORPUS)]
    slim(nlp, used, coverage=1.0)
    for doc, old in zip(nlp.pipe(CORPUS), before, strict=True):
        np.testing.assert_array_equal(doc.tensor, old)
    assert len(shim.encoder.embeddings.word_embeddings.weight) == shim.encoder.config.vocab_size < len(VOCABULARY)
    for doc in nlp.pipe(TEXTS + OTHER):
        assert np.isfinite(doc.tensor).all()


def test_it_is_exported_with_its_vocabulary(nlp, used, shim, tmp_path):
    slim(nlp, used, coverage=1.0)
    write_checkpoint(tmp_path / "out", shim.encoder, shim.tokenizer)
    tokenizer, model = AutoTokenizer.from_pretrained(tmp_path / "out"), AutoModel.from_pretrained(tmp_path / "out")
    inputs = tokenizer(CORPUS[1], return_tensors="pt")
    assert inputs["input_ids"][0, 1:-1].tolist() == shim.tokenizer.encode(CORPUS[1:])[0].ids
    with torch.inference_mode():
        cls = model(input_ids=inputs["input_ids"]).last_hidden_state[0, 0]
    np.testing.assert_allclose(nlp(CORPUS[1])._.cls_vector, cls.numpy(), atol=1e-5)


def test_a_masked_language_model_forgets_the_scores_of_the_pieces(nlp, distilbert_folder, used):
    encoder = {"@architectures": "spacy-distil.DistilBert.v1", "name": str(distilbert_folder), "precision": "float32"}
    nlp.add_pipe("distilbert_mlm", config={"model": {"@architectures": "spacy-distil.MaskedLM.v1", "encoder": encoder}})
    mlm = nlp.get_pipe("distilbert_mlm")
    mlm.initialize(lambda: used, nlp=nlp)
    mlm.model.set_param("vocab_b", np.arange(len(VOCABULARY), dtype="float32") / 100)
    text = "The film [MASK] great."
    before = {filling["token_str"]: filling["score"] for filling in mlm.fill([text], top_k=10_000)[0][0]}
    slim(nlp, used, coverage=1.0)
    after = {filling["token_str"]: filling["score"] for filling in mlm.fill([text], top_k=10_000)[0][0]}
    assert set(after) < set(before)
    total = sum(before[piece] for piece in after)
    for piece, score in after.items():
        assert score == pytest.approx(before[piece] / total, rel=1e-4)
    nlp.update(used, sgd=nlp.resume_training())


def test_every_kind_of_post_processor_is_renumbered(shim, used):
    checkpoint = to_checkpoint(shim)
    vocabulary = checkpoint.tokenizer.tokenizer.get_vocab()
    checkpoint.tokenizer.tokenizer.post_processor = BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    kept = [number for number, piece in enumerate(VOCABULARY) if piece not in ("the", "film")]
    numbers = {old: new for new, old in enumerate(kept)}
    smaller = renumber(checkpoint.tokenizer, numbers)
    encoding = smaller.tokenizer.encode("a plot")
    assert encoding.tokens == ["[CLS]", "a", "plot", "[SEP]"]
    assert [smaller.tokenizer.id_to_token(i) for i in encoding.ids] == encoding.tokens


def test_only_word_pieces_can_go(nlp, used, shim):
    vocabulary = {piece: i for i, piece in enumerate(SPECIAL)}
    shim._tokenizer = PieceTokenizer.create(
        Tokenizer(BPE(vocabulary, [])), max_length=64, special_tokens=shim.tokenizer.special_tokens
    )
    with pytest.raises(CompressionError, match="The tokenizer is a BPE"):
        slim(nlp, used, coverage=1.0)
