"""The component `distilbert` is a spaCy tok2vec."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.util import registry

from spacy_distil.errors import CheckpointError, EncoderError
from tests.pipeline.conftest import (
    LISTENER,
    SPACY_LISTENER,
    TEXTS,
    TRANSFORMER_LISTENER,
    Build,
    examples,
    ner,
    tagger,
    textcat,
)

LISTENERS = {"ours": LISTENER, "spaCy's": SPACY_LISTENER, "spacy-transformers'": TRANSFORMER_LISTENER}
every_listener = pytest.mark.parametrize("listener", LISTENERS.values(), ids=LISTENERS)


def train(nlp: Language, steps: int = 12) -> dict[str, float]:
    """As spaCy's training loop does it. Returns the losses of the last step."""
    optimizer = registry.optimizers.get("Adam.v1")(learn_rate=0.005)
    for _ in range(steps):
        losses: dict[str, float] = {}
        nlp.update(examples(nlp), sgd=False, losses=losses)
        for _, component in nlp.pipeline:
            component.finish_update(optimizer)
    return losses


def give_tagger_weights(nlp: Language) -> None:
    """spaCy's softmax starts from zeros, and sends none but zeros back."""
    softmax = nlp.get_pipe("tagger").model.get_ref("softmax")
    softmax.set_param("W", np.linspace(-1, 1, softmax.get_param("W").size, dtype="f").reshape(-1, 32))


def weights(nlp: Language) -> dict[str, np.ndarray]:
    encoder = nlp.get_pipe("distilbert").shim.encoder
    return {name: value.detach().numpy().copy() for name, value in encoder.named_parameters()}


def changed(before: dict[str, np.ndarray], nlp: Language) -> set[str]:
    return {name for name, value in weights(nlp).items() if not np.array_equal(value, before[name])}


def test_it_sets_a_row_per_token_and_spacys_vectors_follow(build: Build):
    nlp = build()
    doc = nlp(TEXTS[0])
    assert doc.tensor.shape == (len(doc), 32)
    assert doc.tensor.dtype == np.float32
    np.testing.assert_array_equal(doc[1].vector, doc.tensor[1])
    np.testing.assert_allclose(doc[1:3].vector, doc.tensor[1:3].mean(axis=0), rtol=1e-6)
    assert doc.similarity(nlp(TEXTS[0])) == pytest.approx(1.0)
    assert doc._.cls_vector.shape == (32,)


def test_each_doc_owns_its_rows_only(build: Build):
    for doc in build().pipe(TEXTS):
        assert doc.tensor.base is None
        assert doc._.cls_vector.base is None


def test_docs_without_tokens_pass_alone_and_among_others(build: Build):
    nlp = build(tagger=tagger(LISTENER), textcat=textcat(LISTENER))
    assert nlp("").tensor.shape == (0, 32)
    docs = list(nlp.pipe(["", "The film", "", "\n\n"]))
    assert [len(doc.tensor) for doc in docs] == [0, 2, 0, 1]
    assert not docs[3].tensor.any(), "a token without a piece of its own has zeros"
    nlp.update([example for example in examples(nlp)] + [spacy.training.Example(nlp.make_doc(""), nlp.make_doc(""))])


def test_keep_says_what_stays_on_the_doc(build: Build):
    tokens = build(tagger=tagger(LISTENER))(TEXTS[1])
    layers = build(tagger=tagger(LISTENER), keep="layers")(TEXTS[1])
    nothing = build(tagger=tagger(LISTENER), textcat=textcat(LISTENER), keep="nothing")(TEXTS[1])
    assert tokens._.hidden_states is None
    assert layers._.hidden_states.shape == (5, len(layers), 32)
    np.testing.assert_allclose(layers._.hidden_states[-1], layers.tensor, atol=1e-6)
    assert nothing.tensor.size == 0
    assert nothing._.cls_vector is None
    assert [token.tag_ for token in nothing] == [token.tag_ for token in tokens], "it went after the tagger had read it"
    assert build(keep="nothing")(TEXTS[1]).tensor.size == 0


def test_keep_nothing_needs_listeners_that_can_let_go(build: Build):
    with pytest.raises(EncoderError, match=r"keep = \"nothing\" needs spacy-distil.DistilBertListener.v1"):
        build(tagger=tagger(SPACY_LISTENER), keep="nothing")


@every_listener
def test_a_pipeline_learns_through_its_listeners(build: Build, listener: dict):
    nlp = build(tagger=tagger(listener), ner=ner(listener))
    before = weights(nlp)
    first = train(nlp, steps=1)
    last = train(nlp, steps=40)
    assert last["tagger"] < first["tagger"] / 3
    assert last["ner"] < first["ner"] / 3
    assert last["distilbert"] > 0
    assert changed(before, nlp) == set(before)
    assert [token.tag_ for token in nlp(TEXTS[0])] == ["UPPER", "LOWER", "LOWER", "LOWER", "LOWER"]


def test_all_listeners_give_the_same_predictions_and_gradients(build: Build):
    outcomes = []
    for listener in LISTENERS.values():
        nlp = build(tagger=tagger(listener))
        give_tagger_weights(nlp)
        losses: dict[str, float] = {}
        nlp.update(examples(nlp), sgd=False, losses=losses)
        gradient = nlp.get_pipe("distilbert").shim.encoder.embeddings.LayerNorm.weight.grad
        nlp.get_pipe("distilbert").finish_update(registry.optimizers.get("Adam.v1")(learn_rate=0.0))
        outcomes.append(
            (gradient.numpy().copy(), losses["tagger"], nlp.get_pipe("tagger").predict(list(nlp.pipe(TEXTS))))
        )
    for gradient, loss, _ in outcomes[1:]:
        np.testing.assert_allclose(gradient, outcomes[0][0], rtol=1e-4, atol=1e-6)
        assert loss == pytest.approx(outcomes[0][1], rel=1e-5)


def test_nlp_update_with_an_optimizer_steps_the_encoder_in_the_same_call(build: Build):
    nlp = build(tagger=tagger(LISTENER))
    train(nlp, steps=1)  # spaCy's softmax starts from zeros: its first gradient for the encoder is zero
    before = weights(nlp)
    nlp.update(examples(nlp), sgd=registry.optimizers.get("Adam.v1")(learn_rate=0.01))
    assert changed(before, nlp) == set(before)


@pytest.mark.parametrize("excluded", ["tagger", "ner"])
def test_the_encoder_learns_although_a_listener_is_left_out(build: Build, excluded: str):
    nlp = build(tagger=tagger(LISTENER), ner=ner(LISTENER))
    train(nlp, steps=1)
    before = weights(nlp)
    nlp.update(examples(nlp), sgd=False, exclude=[excluded])
    nlp.get_pipe("distilbert").finish_update(registry.optimizers.get("Adam.v1")(learn_rate=0.01))
    assert changed(before, nlp) == set(before)


def test_accumulated_batches_add_up(build: Build):
    together, apart = build(tagger=tagger(LISTENER)), build(tagger=tagger(LISTENER))
    for nlp in (together, apart):
        give_tagger_weights(nlp)
    together.update(examples(together), sgd=False)
    for example in examples(apart):
        apart.update([example], sgd=False)
    gradients = [nlp.get_pipe("distilbert").shim.encoder.embeddings.LayerNorm.weight.grad for nlp in (together, apart)]
    np.testing.assert_allclose(gradients[0].numpy(), gradients[1].numpy(), rtol=1e-4, atol=1e-6)


def test_grad_factor_scales_what_a_component_says_and_at_zero_costs_no_backward_pass(build: Build):
    gradients = {}
    for factor in (1.0, 0.25, 0.0):
        nlp = build(tagger=tagger({**LISTENER, "grad_factor": factor}))
        give_tagger_weights(nlp)
        nlp.update(examples(nlp), sgd=False)
        gradients[factor] = nlp.get_pipe("distilbert").shim.encoder.embeddings.LayerNorm.bias.grad
    assert gradients[0.0] is None
    np.testing.assert_allclose(gradients[0.25].numpy(), 0.25 * gradients[1.0].numpy(), rtol=1e-4, atol=1e-7)


def test_a_gradient_after_the_last_is_an_error(build: Build):
    nlp = build(tagger=tagger(LISTENER))
    nlp.update(examples(nlp), sgd=False)
    listener = nlp.get_pipe("distilbert").listeners[0]
    with pytest.raises(EncoderError, match="after the last listener"):
        listener._backprop([np.zeros((len(doc), 32), dtype="f") for doc in map(nlp.make_doc, TEXTS)])


# Listeners that hear nothing


def test_a_listener_without_its_encoder_says_which_to_enable(build: Build, tmp_path: Path):
    build(tagger=tagger(LISTENER), textcat=textcat(LISTENER)).to_disk(tmp_path)
    for name in ("tagger", "textcat"):
        alone = spacy.load(tmp_path, enable=[name])
        with pytest.raises(EncoderError, match="Enable 'distilbert' together with"):
            alone(TEXTS[0])
    nlp = spacy.load(tmp_path)
    with nlp.select_pipes(disable=["distilbert"]), pytest.raises(EncoderError, match="has not run on this Doc"):
        nlp(TEXTS[0])
    nlp(TEXTS[0])


def test_a_fresh_pipeline_gives_no_zeros_either(build: Build):
    nlp = build(tagger=tagger(LISTENER))
    with nlp.select_pipes(disable=["distilbert"]), pytest.raises(EncoderError, match="has not run on this Doc"):
        nlp(TEXTS[0])


def test_a_width_that_does_not_match_is_named(build: Build):
    with pytest.raises(EncoderError, match=r"listener in 'tagger' expects vectors 96 wide, and 'distilbert' gives 32"):
        build(tagger=tagger({**SPACY_LISTENER, "width": 96}))


def test_a_listener_without_any_encoder_is_an_error():
    nlp = spacy.blank("en")
    nlp.add_pipe("tagger", config=tagger(LISTENER))
    with pytest.raises(EncoderError, match="no component 'distilbert'"):
        nlp.initialize(lambda: examples(nlp))


def test_an_encoder_that_was_never_initialised_says_so(distilbert_folder: Path, tmp_path: Path):
    nlp = spacy.blank("en")
    nlp.add_pipe("distilbert", config={"model": {"name": str(distilbert_folder)}})
    with pytest.raises(EncoderError, match="no weights yet"):
        nlp(TEXTS[0])
    with pytest.raises(EncoderError, match="no weights yet"):
        nlp.to_disk(tmp_path / "saved")


def test_the_batch_id_knows_the_order_of_docs_and_words(build: Build):
    nlp = build(tagger=tagger(LISTENER))
    listener = nlp.get_pipe("distilbert").listeners[0]
    a, b = nlp.make_doc("The film"), nlp.make_doc("film The")
    assert listener.get_batch_id([a, b]) == listener.get_batch_id([nlp.make_doc("The film"), nlp.make_doc("film The")])
    assert len({listener.get_batch_id(docs) for docs in ([a, b], [b, a], [a, a], [b, b], [a], [])}) == 6


# A pipeline is whole


@every_listener
def test_a_saved_pipeline_needs_neither_its_checkpoint_nor_the_network(build: Build, tmp_path: Path, listener: dict):
    nlp = build(encoder={"layers": [0, 2]}, tagger=tagger(listener), ner=ner(listener))
    train(nlp, steps=2)
    nlp.config["components"]["distilbert"]["model"]["name"] = "no/such-model"
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    for one, other in zip(nlp.pipe(TEXTS), loaded.pipe(TEXTS), strict=True):
        np.testing.assert_array_equal(one.tensor, other.tensor)
        assert one.to_json() == other.to_json()
    loaded.initialize(lambda: examples(loaded))
    assert len(loaded.get_pipe("distilbert").shim.encoder.layers) == 2, "initialising again keeps what was learnt"


def test_bytes_copies_and_pickles_give_the_same_predictions(build: Build):
    nlp = build(tagger=tagger(LISTENER), textcat=textcat(LISTENER))
    train(nlp, steps=2)
    expected = nlp(TEXTS[1])
    from_bytes = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    for other in (from_bytes, pickle.loads(pickle.dumps(nlp)), copy.deepcopy(nlp)):
        doc = other(TEXTS[1])
        np.testing.assert_array_equal(doc.tensor, expected.tensor)
        assert doc.to_json() == expected.to_json()
        before = weights(nlp)
        train(other, steps=1)
        assert not changed(before, nlp), "a copy learns for itself"


def test_a_damaged_or_incomplete_folder_is_an_error(build: Build, tmp_path: Path):
    build().to_disk(tmp_path)
    file = tmp_path / "distilbert" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        spacy.load(tmp_path)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        spacy.load(tmp_path)


def test_docs_keep_their_vectors_through_bytes_and_docbin(build: Build):
    nlp = build(keep="layers")
    doc = nlp(TEXTS[0])
    np.testing.assert_array_equal(Doc(nlp.vocab).from_bytes(doc.to_bytes()).tensor, doc.tensor)
    stored = DocBin(store_user_data=True, docs=[doc]).to_bytes()
    (restored,) = DocBin().from_bytes(stored).get_docs(nlp.vocab)
    np.testing.assert_array_equal(restored._.cls_vector, doc._.cls_vector)
    np.testing.assert_array_equal(restored._.hidden_states, doc._.hidden_states)


def test_two_processes_after_a_call_in_this_one(build: Build):
    nlp = build(tagger=tagger(LISTENER))
    here = list(nlp.pipe(TEXTS * 5))
    there = list(nlp.pipe(TEXTS * 5, n_process=2, batch_size=4))
    for one, other in zip(here, there, strict=True):
        np.testing.assert_allclose(one.tensor, other.tensor, atol=1e-5)
        np.testing.assert_allclose(one._.cls_vector, other._.cls_vector, atol=1e-5)
        assert [token.tag_ for token in one] == [token.tag_ for token in other]


# Sharing and not


@every_listener
def test_replace_listeners_gives_a_component_an_encoder_of_its_own(build: Build, tmp_path: Path, listener: dict):
    nlp = build(tagger=tagger(listener), ner=ner(listener))
    train(nlp, steps=3)
    expected = [doc.to_json() for doc in nlp.pipe(TEXTS)]
    nlp.replace_listeners("distilbert", "tagger", ["model.tok2vec"])
    assert [doc.to_json() for doc in nlp.pipe(TEXTS)] == expected
    assert nlp.get_pipe("distilbert").listening_components == ["ner"]
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    assert [doc.to_json() for doc in loaded.pipe(TEXTS)] == expected
    loaded.remove_pipe("ner")
    loaded.remove_pipe("distilbert")
    before = loaded.to_bytes()
    train(loaded, steps=1)
    assert loaded.to_bytes() != before, "it goes on learning"
    loaded.initialize(lambda: examples(loaded))


def test_replace_listeners_keeps_the_cls_vector(build: Build):
    nlp = build(textcat=textcat(LISTENER))
    train(nlp, steps=3)
    expected = nlp(TEXTS[1]).cats
    nlp.replace_listeners("distilbert", "textcat", ["model.tok2vec"])
    assert nlp(TEXTS[1]).cats == pytest.approx(expected, abs=1e-5)


def test_textcat_on_cls_learns_with_a_shared_encoder_and_with_its_own(
    build: Build, distilbert_folder: Path, tmp_path: Path
):
    own = {"@architectures": "spacy-distil.DistilBert.v1", "name": str(distilbert_folder), "precision": "float32"}
    for tok2vec in (LISTENER, own):
        nlp = build(textcat=textcat(tok2vec))
        train(nlp, steps=30)
        assert nlp(TEXTS[1]).cats["LOUD"] > 0.9
        assert nlp(TEXTS[0]).cats["LOUD"] < 0.1
        nlp.to_disk(tmp_path / tok2vec["@architectures"])
        assert spacy.load(tmp_path / tok2vec["@architectures"])(TEXTS[1]).cats == nlp(TEXTS[1]).cats


def test_textcat_on_cls_needs_an_encoder_that_has_one():
    nlp = spacy.blank("en")
    cnn = {
        "@architectures": "spacy.HashEmbedCNN.v2",
        "width": 8,
        "depth": 1,
        "embed_size": 10,
        "pretrained_vectors": None,
    }
    shape = {"window_size": 1, "maxout_pieces": 2, "subword_features": True}
    with pytest.raises(EncoderError, match=r"needs the `\[CLS\]` vector"):
        nlp.add_pipe("textcat", config=textcat({**cnn, **shape}))


def test_the_encoder_works_as_a_sublayer_that_is_not_shared(build: Build, distilbert_folder: Path):
    own = {"@architectures": "spacy-distil.DistilBert.v1", "name": str(distilbert_folder), "precision": "float32"}
    nlp = build(tagger=tagger(own))
    train(nlp, steps=30)
    assert [token.tag_ for token in nlp(TEXTS[0])] == ["UPPER", "LOWER", "LOWER", "LOWER", "LOWER"]


@every_listener
def test_a_sourced_encoder_feeds_the_components_of_another_pipeline(build: Build, listener: dict):
    source = build(tagger=tagger(listener))
    train(source, steps=2)
    nlp = spacy.blank("en", vocab=source.vocab)
    nlp.add_pipe("distilbert", source=source)
    nlp.add_pipe("tagger", source=source)
    nlp.add_pipe("ner", config=ner(listener))
    with nlp.select_pipes(disable=["distilbert", "tagger"]):
        nlp.initialize(lambda: examples(nlp))
    assert [token.tag_ for token in nlp(TEXTS[0])] == [token.tag_ for token in source(TEXTS[0])]
    assert nlp.get_pipe("distilbert").listening_components == ["tagger", "ner"]


@every_listener
def test_a_frozen_encoder_that_annotates_teaches_its_listeners_and_stays_as_it_is(build: Build, listener: dict):
    nlp = build(tagger=tagger(listener))
    before = weights(nlp)
    optimizer = registry.optimizers.get("Adam.v1")(learn_rate=0.02)
    history = []
    for _ in range(40):
        losses: dict[str, float] = {}
        nlp.update(examples(nlp), sgd=False, losses=losses, exclude=["distilbert"], annotates=["distilbert"])
        nlp.get_pipe("tagger").finish_update(optimizer)
        history.append(losses["tagger"])
    assert history[-1] < history[0] / 3
    assert not changed(before, nlp)


def test_two_encoders_have_listeners_of_their_own(distilbert_folder: Path):
    nlp = spacy.blank("en")
    for name, layers in (("deep", None), ("shallow", [0])):
        nlp.add_pipe("distilbert", name=name, config={"model": {"name": str(distilbert_folder), "layers": layers}})
    nlp.add_pipe("tagger", config=tagger({**LISTENER, "upstream": "deep"}))
    nlp.initialize(lambda: examples(nlp))
    assert nlp.get_pipe("deep").listening_components == ["tagger"]
    assert nlp.get_pipe("shallow").listening_components == []


def test_averages_are_what_is_evaluated_and_saved(build: Build):
    nlp = build(tagger=tagger(LISTENER))
    optimizer = registry.optimizers.get("Adam.v1")(learn_rate=0.05, use_averages=True)
    for _ in range(3):
        nlp.update(examples(nlp), sgd=False)
        for _, component in nlp.pipeline:
            component.finish_update(optimizer)
    shim = nlp.get_pipe("distilbert").shim
    last = nlp(TEXTS[0]).tensor
    with nlp.use_params(optimizer.averages):
        averaged = nlp(TEXTS[0]).tensor
        name, parameter = next(shim.encoder.named_parameters())
        np.testing.assert_array_equal(parameter.detach().numpy(), optimizer.averages[shim.id, name])
    assert not np.allclose(last, averaged)
    np.testing.assert_array_equal(nlp(TEXTS[0]).tensor, last)
