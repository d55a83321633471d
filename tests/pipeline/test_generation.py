"""The component `distilbert_seq2seq`."""

from __future__ import annotations

import pickle
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy
import pytest
import safetensors.torch
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Adam

from spacy_distil.encoder.saved import to_metadata
from spacy_distil.encoder.unknown import share_unknown
from spacy_distil.errors import CheckpointError, ComponentError, EncoderError
from spacy_distil.pipeline.generation import model as architectures
from spacy_distil.pipeline.generation.component import Seq2Seq
from spacy_distil.pipeline.generation.initialization import WEIGHTS
from spacy_distil.pipeline.generation.model import get_decoder, get_encoder
from spacy_distil.pipeline.generation.parts import cut_sentences, cut_whole
from spacy_distil.pipeline.generation.scores import score_texts
from spacy_distil.pipeline.generation.search import Search
from spacy_distil.pipeline.generation.vocabulary import decode, encode, train_vocabulary
from tests.conftest import SaveCheckpoint
from tests.pipeline.generation import PAIRS, build, examples

HINDI = "यह फ़िल्म अच्छी थी"
TEXT = "The film was great. A bad story."


@pytest.fixture(scope="module")
def built(distilbert_folder: Path) -> tuple[Language, Seq2Seq]:
    return build(distilbert_folder, max_length=8)


def train(nlp: Language, n_steps: int, attribute: str = "translations") -> list[float]:
    made, optimizer, losses = (
        examples(nlp, attribute=attribute),
        nlp.initialize(lambda: examples(nlp, attribute=attribute)),
        [],
    )
    optimizer.learn_rate = 0.003
    for _ in range(n_steps):
        losses.append(nlp.update(made, sgd=optimizer, drop=0.0)["distilbert_seq2seq"])
    return losses


# What it sets


def test_it_learns_to_translate(distilbert_folder: Path) -> None:
    nlp, _ = build(distilbert_folder, random=False)
    losses = train(nlp, 150)
    assert losses[-1] < 0.5 * losses[0]
    assert [doc._.translation for doc in nlp.pipe([source for source, _ in PAIRS])] == [target for _, target in PAIRS]
    scores = nlp.evaluate(examples(nlp))
    assert scores["bleu"] == pytest.approx(1.0)
    assert scores["chrf"] == pytest.approx(1.0)


def test_it_learns_to_summarise(distilbert_folder: Path) -> None:
    nlp, _ = build(distilbert_folder, random=False, target="summary", beams=2)
    train(nlp, 150, "summaries")
    doc = nlp(PAIRS[0][0])
    assert doc._.abstract == PAIRS[0][1]
    assert doc._.translation is None
    scores = nlp.evaluate(examples(nlp, attribute="summaries"))
    assert scores["rouge1_f"] == pytest.approx(1.0)
    assert "bleu" not in scores


def test_analysis_lists_what_it_sets(built: tuple[Language, Seq2Seq]) -> None:
    summary = built[0].analyze_pipes()["summary"]["distilbert_seq2seq"]
    assert summary["assigns"] == ["doc._.translation", "doc._.abstract"]
    assert summary["requires"] == []


def test_empty_docs_and_white_space_have_empty_translations(built: tuple[Language, Seq2Seq]) -> None:
    nlp, pipe = built
    assert [doc._.translation for doc in nlp.pipe(["", " \n\t ", "London"])][:2] == ["", ""]
    assert nlp("")._.translation == ""
    assert pipe.predict([]) == []


def test_a_doc_is_translated_sentence_by_sentence(built: tuple[Language, Seq2Seq]) -> None:
    nlp, pipe = built
    doc = nlp.make_doc("The film was great. A bad story.\n\n London")
    for i, token in enumerate(doc):
        token.is_sent_start = i in (0, 5, 10)
    apart = [pipe.predict([nlp.make_doc(text)])[0] for text in ("The film was great.", "A bad story.", "London")]
    assert pipe.predict([doc]) == [f"{apart[0]} {apart[1]}\n\n{apart[2]}"]


def test_sentences_beyond_the_window_are_cut_between_tokens_and_nothing_is_dropped(
    built: tuple[Language, Seq2Seq],
) -> None:
    nlp, pipe = built
    doc = nlp.make_doc("unbelievably wonderful " * 30)
    parts = cut_sentences([doc], pipe.source_tokenizer, 10)
    whole = encode(pipe.source_tokenizer, [doc.text])[0]
    assert [piece for part in parts for ids in part.windows for piece in ids] == whole
    assert all(len(part.windows) == 1 and len(part.windows[0]) <= 10 for part in parts)
    words = [encode(pipe.source_tokenizer, [word])[0] for word in ("unbelievably", "wonderful")]
    assert all(
        list(part.windows[0][: len(word)]) == word
        for part in parts
        for word in words[:1]
        if part.windows[0][0] == word[0]
    )
    assert {part.windows[0][0] for part in parts} <= {word[0] for word in words}


def test_a_token_longer_than_the_window_is_cut_itself(built: tuple[Language, Seq2Seq]) -> None:
    nlp, pipe = built
    doc = Doc(nlp.vocab, words=["a", "x" * 37, "b"])
    windows = [part.windows[0] for part in cut_sentences([doc], pipe.source_tokenizer, 10)]
    assert [piece for ids in windows for piece in ids] == encode(pipe.source_tokenizer, [doc.text])[0]
    assert max(map(len, windows)) <= 10


def test_a_summary_reads_the_whole_doc_in_windows(built: tuple[Language, Seq2Seq]) -> None:
    nlp, pipe = built
    doc = nlp.make_doc(TEXT * 10)
    (part,) = cut_whole([doc], pipe.source_tokenizer, 10)
    assert len(part.windows) > 5
    assert [piece for ids in part.windows for piece in ids] == encode(pipe.source_tokenizer, [doc.text])[0]


@pytest.mark.parametrize("has_sentences", [True, False])
def test_a_cut_is_told_once(distilbert_folder: Path, has_sentences: bool) -> None:
    nlp, pipe = build(distilbert_folder, max_length=3, encoder={"window": 12, "overlap": 2})
    doc = nlp.make_doc("The film was great and the story was bad and the actor was great in the end.")
    doc[0].is_sent_start = True if has_sentences else None
    for token in doc[1:]:
        token.is_sent_start = False if has_sentences else None
    told = "a sentence in 3 parts" if has_sentences else "a Doc in 3 parts.*no sentence boundaries"
    with pytest.warns(UserWarning, match=told):
        (text,) = pipe.predict([doc])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pipe.predict([doc]) == [text]


# What it can't learn


@pytest.mark.parametrize("vocabulary", ["bpe", "source"])
def test_without_a_reference_there_is_nothing_to_learn(distilbert_folder: Path, vocabulary: str) -> None:
    with pytest.raises(ComponentError, match=r"none of the 2 examples has a text in `doc._.translations`"):
        build(distilbert_folder, model={"vocabulary": vocabulary}, pairs=[("The film", ""), ("London", " ")])


def test_docs_without_reference_or_text_are_passed_over(distilbert_folder: Path) -> None:
    nlp, pipe = build(distilbert_folder)
    sgd = nlp.create_optimizer()
    before = get_decoder(pipe.model).to_bytes()
    nothing = examples(nlp, [("The film", ""), ("The film", " \n"), ("", "Der Film"), (" ", "Der Film")])
    assert nlp.update(nothing, sgd=sgd)["distilbert_seq2seq"] == 0.0
    assert get_decoder(pipe.model).to_bytes() == before
    both = examples(nlp, [("The film", ""), *PAIRS])
    assert nlp.update(both, sgd=False)["distilbert_seq2seq"] == pytest.approx(
        nlp.update(examples(nlp), sgd=False)["distilbert_seq2seq"]
    )


def test_each_reference_of_a_doc_is_learnt(distilbert_folder: Path) -> None:
    nlp, pipe = build(distilbert_folder)
    made = examples(nlp)[:2]
    made[0].reference._.translations = ["Der Film", "", "Ein Film"]
    pairs = pipe.make_pairs([example.predicted for example in made], pipe.find_targets(made))
    assert decode(pipe.vocabulary, pairs.targets) == ["Der Film", "Ein Film", PAIRS[1][1]]


def test_references_that_are_too_long_are_left_out_and_told(distilbert_folder: Path) -> None:
    nlp, pipe = build(distilbert_folder, model={"max_length": 10})
    made = examples(nlp, [("The film", "Der Film " * 10), ("London", "Die")])
    with pytest.warns(UserWarning, match="nothing from 1 of 2 references.*10 pieces"):
        targets = pipe.find_targets(made)
    assert list(map(len, targets)) == [0, 1]


@pytest.mark.parametrize("pairs", [[(HINDI, "Der Film")], [("The film", "Der Film"), ("The film", "Der Film")]])
def test_a_script_that_the_vocabulary_lacks_is_told(distilbert_folder: Path, pairs: list[tuple[str, str]]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nlp, _ = build(distilbert_folder, pairs=pairs, max_length=3)
    told = [str(warning.message) for warning in caught if "unknown to its source" in str(warning.message)]
    assert len(told) == (pairs[0][0] != "The film")
    if not told:
        with pytest.warns(UserWarning, match=r"reads texts of which 100% of the pieces are unknown to its source"):
            nlp(HINDI)


def test_a_small_vocabulary_is_told(distilbert_folder: Path) -> None:
    with pytest.warns(UserWarning, match=r"has \d+ pieces, and vocabulary_size = 5000"):
        build(distilbert_folder, model={"vocabulary_size": 5000})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing = 1.0"),
        ({"beams": 0}, "beams = 0"),
        ({"model": {"n_layers": 0}}, "n_layers = 0"),
        ({"model": {"width": 30}}, "width = 30 is no multiple of .* 8"),
    ],
)
def test_settings_that_can_not_be_are_an_error(distilbert_folder: Path, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ComponentError, match=told):
        build(distilbert_folder, **settings)


def test_names_that_are_not_known_are_an_error(built: tuple[Language, Seq2Seq]) -> None:
    with pytest.raises(ComponentError, match=r"target = 'poem' is not known. Known are translation, summary"):
        Seq2Seq(built[0].vocab, built[1].model, target="poem")  # type: ignore[arg-type]
    with pytest.raises(ComponentError, match=r"vocabulary = 'words' is not known. Known are bpe, wordpiece, source"):
        architectures.Seq2Seq(built[1].model.layers[0], vocabulary="words")  # type: ignore[arg-type]


def test_another_model_is_an_error() -> None:
    with pytest.raises(ComponentError, match=r"spacy-distil.Seq2Seq.v1"):
        spacy.blank("en").add_pipe(
            "distilbert_seq2seq",
            config={
                "model": {
                    "@architectures": "spacy.HashEmbedCNN.v2",
                    "width": 8,
                    "depth": 1,
                    "embed_size": 10,
                    "window_size": 1,
                    "maxout_pieces": 2,
                    "subword_features": True,
                    "pretrained_vectors": None,
                }
            },
        )


def test_a_pipeline_without_weights_is_an_error(distilbert_folder: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe(
        "distilbert_seq2seq",
        config={"model": {"encoder": {"@architectures": "spacy-distil.DistilBert.v1", "name": str(distilbert_folder)}}},
    )
    with pytest.raises(EncoderError, match="no weights yet"):
        nlp("The film")


# Vocabularies


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_a_trained_vocabulary_gives_texts_back(kind: Any) -> None:
    texts = ["Der Film war groß, 1994!", "„Ach“, sagte sie - und ging (um 12:30 Uhr).", "a--b  ## #c …"]
    vocabulary = train_vocabulary(texts, kind=kind, size=300, max_length=20)
    encoded = encode(vocabulary, texts)
    assert decode(vocabulary, encoded) == [" ".join(text.split()) for text in texts]
    assert share_unknown(vocabulary, numpy.concatenate(encoded)) == 0.0
    assert share_unknown(vocabulary, numpy.array(encode(vocabulary, ["☃"])[0])) > 0


def test_a_shared_vocabulary_shares_its_vectors(distilbert_folder: Path) -> None:
    nlp, pipe = build(distilbert_folder, model={"vocabulary": "source"}, random=False)
    assert not any("word_embeddings" in name for name, _ in get_decoder(pipe.model).decoder.named_parameters())
    assert pipe.vocabulary is pipe.source_tokenizer
    words = get_encoder(pipe.model).encoder.embeddings.word_embeddings.weight
    before = words.detach().clone()
    nlp.update(examples(nlp, [("a", "the film")]), sgd=nlp.create_optimizer())
    changed = (words != before).any(dim=1)
    assert changed.all()  # the output layer's gradient reaches them all
    nlp("The film")


def test_a_decoder_starts_from_the_encoder(distilbert_folder: Path) -> None:
    _, pipe = build(distilbert_folder, random=False)
    encoder, decoder = get_encoder(pipe.model).encoder, get_decoder(pipe.model).decoder
    for layer, i in zip(decoder.layers, (0, 2), strict=True):
        given = encoder.layers[i]
        assert torch.equal(layer.ffn.lin1.weight, given.ffn.lin1.weight)
        assert torch.equal(layer.attention.q_lin.weight, given.attention.q_lin.weight)
        assert torch.equal(layer.cross_attention.k_lin.weight, given.attention.k_lin.weight)
    source, target = pipe.source_tokenizer.tokenizer, pipe.vocabulary.tokenizer
    vectors = decoder.embeddings.word_embeddings.weight
    assert torch.equal(
        vectors[target.token_to_id("F")], encoder.embeddings.word_embeddings.weight[source.token_to_id("f")]
    )


def test_a_decoder_starts_from_another_pipelines(distilbert_folder: Path, tmp_path: Path) -> None:
    nlp, teacher = build(distilbert_folder)
    nlp.to_disk(tmp_path)
    folder = tmp_path / teacher.name
    block = {"decoder": str(tmp_path), "decoder_layers": [1]}
    _, student = build(folder, encoder={"layers": [0, 2]}, model=block, random=False)
    given, taken = get_decoder(teacher.model).decoder, get_decoder(student.model).decoder
    assert taken.config.n_layers == 1
    assert torch.equal(taken.layers[0].ffn.lin1.weight, given.layers[1].ffn.lin1.weight)
    assert torch.equal(taken.embeddings.word_embeddings.weight, given.embeddings.word_embeddings.weight)
    assert student.vocabulary.tokenizer.to_str() == teacher.vocabulary.tokenizer.to_str()
    assert len(get_encoder(student.model).encoder.layers) == 2


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ({"decoder": "{folder}", "decoder_layers": [2]}, "layer 2, and the decoder has the layers 0 to 1"),
        ({"decoder": "{folder}/nowhere"}, "no folder of a saved component"),
    ],
)
def test_a_decoder_that_is_not_there_is_an_error(
    distilbert_folder: Path, tmp_path: Path, block: dict[str, Any], told: str
) -> None:
    build(distilbert_folder)[0].to_disk(tmp_path)
    block = {**block, "decoder": block["decoder"].format(folder=tmp_path)}
    with pytest.raises(CheckpointError, match=told):
        build(distilbert_folder, model=block)


def test_a_decoder_for_an_encoder_of_another_width_is_an_error(
    distilbert_folder: Path, save_checkpoint: SaveCheckpoint, tmp_path: Path
) -> None:
    build(distilbert_folder)[0].to_disk(tmp_path)
    wide = save_checkpoint("distilbert", dim=48, hidden_dim=64)
    with pytest.raises(CheckpointError, match="reads an encoder 32 wide, and this one is 48 wide"):
        build(wide, model={"decoder": str(tmp_path)})


# Scores


def test_bleu_and_chrf_are_those_of_sacrebleu(built: tuple[Language, Seq2Seq]) -> None:
    import sacrebleu

    nlp, _ = built
    said = ["Der Film war sehr gut .", "Eine schlechte Geschichte!", "", "Der große Schauspieler in Berlin"]
    made = examples(nlp, [*PAIRS, ("The end", "")])
    made[0].reference._.translations = [PAIRS[0][1], "Der Film war sehr gut."]
    for example, text in zip(made, [*said, "Das Ende"], strict=True):
        example.predicted._.translation = text or None
    streams = [[PAIRS[0][1], *(target for _, target in PAIRS[1:])], ["Der Film war sehr gut.", None, None, None]]
    scores = score_texts(made)
    assert scores["bleu"] == pytest.approx(sacrebleu.corpus_bleu(said, streams).score / 100)
    assert scores["chrf"] == pytest.approx(sacrebleu.corpus_chrf(said, streams).score / 100)
    assert 0 < scores["bleu"] < 1


def test_without_references_there_are_no_scores(built: tuple[Language, Seq2Seq]) -> None:
    nlp, _ = built
    made = examples(nlp, [("The film", "")])
    assert score_texts(made) == {}
    assert score_texts(made, target="summary") == {}


def test_scores_without_sacrebleu_name_the_extra(
    monkeypatch: pytest.MonkeyPatch, built: tuple[Language, Seq2Seq]
) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ComponentError, match=re.escape("spacy-distil[translation]")):
        score_texts(examples(built[0]))


# Copies


def texts_of(nlp: Language) -> list[str]:
    return [doc._.translation for doc in nlp.pipe([source for source, _ in PAIRS])]


def test_it_survives_disk_bytes_and_copies(distilbert_folder: Path, tmp_path: Path) -> None:
    nlp, pipe = build(distilbert_folder, max_length=8, beams=2)
    expected = texts_of(nlp)
    assert all(expected)
    nlp.to_disk(tmp_path / "nlp")
    assert sorted(path.name for path in (tmp_path / "nlp" / pipe.name).glob("*")) == [WEIGHTS, "model.safetensors"]
    assert texts_of(spacy.load(tmp_path / "nlp")) == expected
    assert texts_of(spacy.blank("en", config=nlp.config, vocab=True).from_bytes(nlp.to_bytes())) == expected
    assert texts_of(pickle.loads(pickle.dumps(nlp))) == expected
    copy = pipe.model.copy()
    docs = [nlp.make_doc(source) for source, _ in PAIRS]
    assert Seq2Seq(nlp.vocab, copy, search=pipe.search).predict(docs) == expected
    assert [doc._.translation for doc in nlp.pipe([source for source, _ in PAIRS], n_process=2)] == expected


def test_a_saved_pipeline_searches_as_its_config_says(distilbert_folder: Path, tmp_path: Path) -> None:
    nlp, _ = build(distilbert_folder, beams=2)
    nlp.to_disk(tmp_path)
    changed = {"beams": 3, "max_length": 4, "early_stopping": "never"}
    loaded = spacy.load(tmp_path, config={"components": {"distilbert_seq2seq": changed}})
    assert loaded.get_pipe("distilbert_seq2seq").search == Search(**changed)


@pytest.mark.parametrize("damage", ["cut", "gone", "other"])
def test_a_damaged_decoder_is_an_error(distilbert_folder: Path, tmp_path: Path, damage: str) -> None:
    nlp, pipe = build(distilbert_folder)
    nlp.to_disk(tmp_path)
    path = tmp_path / pipe.name / WEIGHTS
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes((tmp_path / pipe.name / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        spacy.load(tmp_path)


def test_a_decoder_of_a_newer_version_says_which_it_needs(distilbert_folder: Path, tmp_path: Path) -> None:
    nlp, pipe = build(distilbert_folder)
    nlp.to_disk(tmp_path)
    path = tmp_path / pipe.name / WEIGHTS
    weights = {name: value.clone() for name, value in safetensors.torch.load_file(path).items()}
    about = to_metadata({"format": "seq2seq-99", "needs": "9.1.0"})
    safetensors.torch.save_file(weights, path, metadata=about)
    with pytest.raises(CheckpointError, match=r"reads 'seq2seq-1', 'seq2seq-2'\. It needs spacy-distil >= 9\.1\.0"):
        spacy.load(tmp_path)


def test_averages_of_an_optimiser_are_used(distilbert_folder: Path) -> None:
    nlp, pipe = build(distilbert_folder, random=False)
    optimizer = Adam(0.001)
    for _ in range(5):
        nlp.update(examples(nlp), sgd=optimizer)
    weight = get_decoder(pipe.model).decoder.layers[0].ffn.lin1.weight
    before = weight.detach().clone()
    with nlp.use_params(optimizer.averages):
        assert not torch.equal(weight, before)
        texts_of(nlp)
    assert torch.equal(weight, before)


def test_training_goes_on_after_loading(distilbert_folder: Path, tmp_path: Path) -> None:
    nlp, _ = build(distilbert_folder)
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    one, other = (n.update(examples(n), sgd=False)["distilbert_seq2seq"] for n in (nlp, loaded))
    assert one == pytest.approx(other, rel=1e-5)
    loaded.initialize(lambda: examples(loaded))
    assert texts_of(loaded) == texts_of(nlp)


def test_a_rounded_decoder_takes_half_of_the_file_until_it_learns(distilbert_folder: Path, tmp_path: Path) -> None:
    nlp, pipe = build(distilbert_folder)
    nlp.to_disk(tmp_path / "whole")
    decoder = get_decoder(pipe.model)
    weights = {name: value.clone() for name, value in decoder.decoder.state_dict().items()}
    decoder.round_to_bfloat16()
    nlp.to_disk(tmp_path / "half")
    loaded = spacy.load(tmp_path / "half")
    for name, value in get_decoder(loaded.get_pipe("distilbert_seq2seq").model).decoder.state_dict().items():
        assert torch.equal(value, weights[name].bfloat16().float())
    loaded.to_disk(tmp_path / "again")
    loaded.update(examples(loaded), sgd=Adam(0.01))
    loaded.to_disk(tmp_path / "trained")
    files = {path.parent.parent.name: path for path in tmp_path.glob("*/distilbert_seq2seq/decoder.safetensors")}
    sizes = {
        name: sum(value.nbytes for value in safetensors.torch.load_file(path).values()) for name, path in files.items()
    }
    assert sizes["half"] == sizes["whole"] / 2
    assert sizes["trained"] == sizes["whole"]
    assert files["again"].read_bytes() == files["half"].read_bytes()


def test_a_reference_alone_is_a_list_of_one(built: tuple[Language, Seq2Seq]) -> None:
    nlp, pipe = built
    doc = nlp.make_doc("The film")
    doc._.translations = "Der Film"
    assert pipe.find_references(doc) == ["Der Film"]
    predicted = nlp.make_doc("The film")
    predicted._.translation = "Der Film"
    assert score_texts([Example(predicted, doc)])["chrf"] == pytest.approx(1.0)
