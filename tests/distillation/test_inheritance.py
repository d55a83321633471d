"""A student's encoder that starts from its teacher's."""

from pathlib import Path

import pytest
import spacy
import torch
from spacy.language import Language

from spacy_distil.distillation.errors import DistillationError, TeacherError
from spacy_distil.distillation.hidden_states.inheritance import inherit
from tests.conftest import TEXTS, VOCABULARY, SaveCheckpoint, randomize, tiny_model

from .test_states import with_distilbert, with_transformer
from .toy import build

TEACHERS = pytest.mark.parametrize("make", [with_distilbert, with_transformer])
ALL = [(1, 1), (2, 2), (3, 3), (4, 4)]


def encoder(nlp: Language):
    return nlp.get_pipe("encoder")


def vectors(nlp: Language) -> torch.Tensor:
    return torch.cat([torch.tensor(doc.tensor) for doc in nlp.pipe(TEXTS)])


@pytest.fixture
def other(save_checkpoint: SaveCheckpoint):
    """A checkpoint with weights of its own."""

    def make(model_type: str, **overrides) -> Path:
        model = tiny_model(model_type, **overrides)
        torch.manual_seed(7)
        randomize(model)
        return save_checkpoint(model_type, model=model)

    return make


@TEACHERS
@pytest.mark.parametrize("teachers", ["bert", "distilbert"])
@pytest.mark.parametrize("students", ["bert", "distilbert"])
def test_with_all_layers_a_student_equals_its_teacher(make, teachers, students, other, save_checkpoint):
    folder = save_checkpoint(teachers)
    if make is with_transformer and teachers == "distilbert":
        # transformers gives a DistilBERT's tokenizer token types, which spacy-transformers passes on.
        (folder / "tokenizer_config.json").write_text('{"model_input_names": ["input_ids", "attention_mask"]}')
    student, teacher = with_distilbert(other(students)), make(folder)
    expected = vectors(with_distilbert(folder))
    before = vectors(student)
    summary = inherit(encoder(student), encoder(teacher), ALL)
    assert (before - expected).abs().max() > 0.1
    torch.testing.assert_close(vectors(student), expected, rtol=1e-4, atol=1e-4)
    assert (summary.pieces, summary.of_pieces) == (len(VOCABULARY), len(VOCABULARY))
    assert summary.layers == tuple(ALL)
    kept = 32 * 33 if students == "bert" else 0  # its pooler
    assert summary.parameters == summary.of_parameters - kept


@TEACHERS
def test_layers_come_from_those_that_teach_them(make, bert_folder, other):
    student, teacher = with_distilbert(other("distilbert", n_layers=2)), make(bert_folder)
    summary = inherit(encoder(student), encoder(teacher), [(0, 0), (1, 2), (2, 4)])
    whole = encoder(with_distilbert(bert_folder)).shim.encoder
    for ours, theirs in zip(encoder(student).shim.encoder.layers, (whole.layers[1], whole.layers[3]), strict=True):
        for one, copied in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(one, copied)
            assert one.data_ptr() != copied.data_ptr()
    assert str(summary).endswith(f"{len(VOCABULARY)} of {len(VOCABULARY)} word pieces, layers 1 from 2, 2 from 4")


def test_pieces_are_known_by_what_they_spell(bert_folder, other):
    folder = other("distilbert")
    shifted = [*VOCABULARY[:5], "[unused]", *VOCABULARY[5:-1]]
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in shifted), encoding="utf8")
    (folder / "tokenizer.json").unlink()
    student, teacher = with_distilbert(folder), with_distilbert(bert_folder)
    before = encoder(student).shim.encoder.embeddings.word_embeddings.weight.detach().clone()
    summary = inherit(encoder(student), encoder(teacher), ALL)
    ours, theirs = (encoder(nlp).shim.encoder.embeddings.word_embeddings.weight for nlp in (student, teacher))
    assert torch.equal(ours[:5], theirs[:5])
    assert torch.equal(ours[5], before[5])
    assert torch.equal(ours[6:], theirs[5:-1])
    assert (summary.pieces, summary.of_parameters - summary.parameters) == (len(VOCABULARY) - 1, 32)


def test_what_has_another_shape_stays(bert_folder, other):
    narrow, wide = with_distilbert(other("distilbert", hidden_dim=40)), with_distilbert(other("distilbert", dim=64))
    summary = inherit(encoder(narrow), encoder(with_distilbert(bert_folder)), ALL)
    assert summary.layers == ()
    assert summary.pieces == len(VOCABULARY)
    before = vectors(wide)
    summary = inherit(encoder(wide), encoder(with_distilbert(bert_folder)), ALL)
    assert (summary.parameters, summary.pieces, summary.layers) == (0, 0, ())
    assert torch.equal(vectors(wide), before)
    assert str(summary).startswith("0 of the encoder's")


def test_more_positions_than_the_teachers_are_kept(bert_folder, other):
    student = with_distilbert(other("distilbert", max_position_embeddings=80))
    before = encoder(student).shim.encoder.embeddings.position_embeddings.weight.detach().clone()
    summary = inherit(encoder(student), encoder(with_distilbert(bert_folder)), ALL)
    after = encoder(student).shim.encoder.embeddings.position_embeddings.weight
    assert torch.equal(after[64:], before[64:])
    assert not torch.equal(after[:64], before[:64])
    assert summary.of_parameters - summary.parameters == 16 * 32


def test_frozen_parts_inherit_and_stay_frozen(bert_folder, other):
    nlp = spacy.blank("en")
    model = {"name": str(other("distilbert")), "precision": "float32", "freeze": "embeddings"}
    nlp.add_pipe("distilbert", name="encoder", config={"model": model})
    nlp.initialize()
    inherit(encoder(nlp), encoder(with_distilbert(bert_folder)), ALL)
    torch.testing.assert_close(vectors(nlp), vectors(with_distilbert(bert_folder)), rtol=1e-4, atol=1e-4)
    learning = {name for name, parameter in encoder(nlp).shim.encoder.named_parameters() if parameter.requires_grad}
    assert learning
    assert not any(name.startswith("embeddings") for name in learning)


def test_others_can_neither_inherit_nor_leave_anything(bert_folder, monkeypatch):
    ours, transformer, tok2vec = (
        with_distilbert(bert_folder),
        with_transformer(bert_folder),
        build().get_pipe("tok2vec"),
    )
    with pytest.raises(DistillationError, match="student's 'tok2vec' is a Tok2Vec, which can't inherit"):
        inherit(tok2vec, encoder(ours), ALL)
    with pytest.raises(TeacherError, match="teacher's 'tok2vec' is a Tok2Vec, from which no encoder"):
        inherit(encoder(ours), tok2vec, ALL)
    monkeypatch.setattr(type(encoder(transformer).model.transformer.config), "model_type", "roberta")
    with pytest.raises(
        TeacherError, match=r"teacher's 'encoder' is of the architecture 'roberta'.*set inherit = false"
    ):
        inherit(encoder(ours), encoder(transformer), ALL)
