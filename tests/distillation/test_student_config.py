"""`distil init-config`: a config that trains as it stands."""

import numpy
import pytest
import spacy
from spacy.cli._util import app
from spacy.kb import InMemoryLookupKB
from spacy.language import Language
from spacy.training.initialize import init_nlp
from spacy.util import load_config
from typer.testing import CliRunner

import spacy_distil.cli  # noqa: F401  registers the command
from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.student import LISTENER, make_student_config, to_text
from spacy_distil.distillation.update import DistillationUpdate
from spacy_distil.encoder.config import choose_layers
from spacy_distil.errors import EncoderError

from .test_any_teacher import with_transformer
from .test_hidden import on_distilbert
from .toy import sentences, write_corpus


@pytest.fixture
def encoder_teacher(distilbert_folder, tmp_path) -> Language:
    teacher = on_distilbert(distilbert_folder)
    teacher.to_disk(tmp_path / "teacher")
    return teacher


def written(teacher: str, tmp_path, annotate: str = ""):
    """The config, as it is read from the file, with paths of a corpus, by default without labels."""
    (tmp_path / "student.cfg").write_text(to_text(make_student_config(teacher)))
    corpus = write_corpus(tmp_path / "texts.spacy", sentences(20, seed=1, annotate=annotate))
    paths = {"paths.train": str(corpus), "paths.dev": str(corpus)}
    return load_config(tmp_path / "student.cfg", overrides=paths, interpolate=False)


def test_student_starts_from_half_of_its_teachers_layers(encoder_teacher, tmp_path):
    nlp = init_nlp(written(str(tmp_path / "teacher"), tmp_path))
    assert isinstance(nlp.update, DistillationUpdate)
    assert nlp.pipe_names == ["distilbert", "textcat"]
    layers, theirs = (p.get_pipe("distilbert").shim.encoder.layers for p in (nlp, encoder_teacher))
    assert len(layers) == 2
    for mine, number in zip(layers, (0, 2), strict=True):
        numpy.testing.assert_array_equal(mine.ffn.lin1.weight.detach(), theirs[number].ffn.lin1.weight.detach())
    scores = nlp.evaluate(spacy.training.Corpus(tmp_path / "texts.spacy")(nlp))
    assert scores["cats_score"] is not None  # agreement: the texts have no labels
    nlp.to_disk(tmp_path / "student")
    assert str(tmp_path / "teacher") not in (tmp_path / "student" / "config.cfg").read_text()


def test_number_of_layers_and_language_can_be_chosen(encoder_teacher, tmp_path):
    config = make_student_config(str(tmp_path / "teacher"), n_layers=3, lang="de")
    assert config["nlp"]["lang"] == "de"
    assert config["components"]["distilbert"]["model"]["layers"] == [0, 1, 2]
    with pytest.raises(EncoderError, match="can't keep 5 layers of a teacher that has 4"):
        make_student_config(str(tmp_path / "teacher"), n_layers=5)
    with pytest.raises(DistillationError, match="no language 'english'"):
        make_student_config(str(tmp_path / "teacher"), lang="english")


def test_another_name_of_the_teachers_folder_leaves_no_trace_either(encoder_teacher, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    student = written("teacher", tmp_path)
    assert student["components"]["distilbert"]["model"]["name"] == "teacher/distilbert"
    student["paths"]["teacher"] = str(tmp_path / "teacher")
    assert init_nlp(student).config["components"]["distilbert"]["model"]["name"] == ""


def test_layers_are_spread_evenly_and_distilberts_are_its_own():
    assert choose_layers(12) == choose_layers(12, 6) == [0, 2, 4, 7, 9, 11]
    assert choose_layers(12, 4) == [0, 3, 6, 9]
    assert choose_layers(6) == [0, 2, 4]
    assert choose_layers(5) == [0, 1, 3]


def test_student_of_a_transformer_inherits_its_encoder(distilbert_folder, tmp_path):
    teacher = with_transformer(distilbert_folder)
    with numpy.errstate(all="ignore"):
        teacher.to_disk(tmp_path / "teacher")
    config = written(str(tmp_path / "teacher"), tmp_path)
    assert config["distillation"]["inherit"] is True
    assert config["distillation"]["inherit_heads"] is True
    nlp = init_nlp(config)
    mine = nlp.get_pipe("distilbert").shim.encoder.embeddings.word_embeddings.weight.detach()
    theirs = teacher.get_pipe("transformer").model.transformer.get_input_embeddings().weight.detach()
    numpy.testing.assert_array_equal(mine, theirs)


def test_other_encoders_and_what_does_not_learn(teacher, tmp_path):
    nlp = spacy.load(teacher.to_disk(tmp_path / "plain") or tmp_path / "plain")
    nlp.add_pipe("sentencizer", first=True)
    nlp.to_disk(tmp_path / "teacher")
    config = make_student_config(str(tmp_path / "teacher"))
    assert config["nlp"]["pipeline"] == ["distilbert", "sentencizer", "textcat", "textcat_multilabel", "ner"]
    assert config["components"]["sentencizer"] == {"source": "${paths.teacher}"}
    assert config["components"]["distilbert"]["model"]["name"] == "distilbert-base-uncased"
    assert config["components"]["ner"]["model"]["tok2vec"] == {"@architectures": "spacy-distil.DistilBertListener.v1"}
    assert "tok2vec" not in config["components"]["textcat_multilabel"]["model"]  # a bag of words


def test_entity_linker_takes_its_knowledge_base_over(distilbert_folder, tmp_path):
    teacher = on_distilbert(distilbert_folder)
    model = {
        "@architectures": "spacy.EntityLinker.v2",
        "tok2vec": {**LISTENER, "width": 32},
    }
    linker = teacher.add_pipe("entity_linker", config={"model": model, "use_gold_ents": False})

    def load(vocab):
        kb = InMemoryLookupKB(vocab, entity_vector_length=3)
        kb.add_entity("Q1", 1.0, [1.0, 0.0, 2.0])
        kb.add_alias("Lyra", ["Q1"], [1.0])
        return kb

    egs = [
        spacy.training.Example(doc.copy(), doc)
        for doc in sentences(5, seed=0, annotate="sentiment", vocab=teacher.vocab)
    ]
    linker.initialize(lambda: egs, nlp=teacher, kb_loader=load)
    teacher.to_disk(tmp_path / "teacher")
    nlp = init_nlp(written(str(tmp_path / "teacher"), tmp_path, annotate="sentiment"))
    kb = nlp.get_pipe("entity_linker").kb
    assert [c.entity_ for c in kb.get_alias_candidates("Lyra")] == ["Q1"]
    assert list(kb.get_vector("Q1")) == [1.0, 0.0, 2.0]
    assert "TeacherKB" not in nlp.config.to_str()


def test_teacher_with_nothing_to_teach_is_an_error(tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path)
    with pytest.raises(DistillationError, match="it has sentencizer"):
        make_student_config(str(tmp_path))


def test_command_writes_and_does_not_overwrite(teacher_path, tmp_path):
    def run(*more):
        return CliRunner().invoke(
            app, ["distil", "init-config", str(teacher_path), str(tmp_path / "a" / "s.cfg"), *more]
        )

    assert run().exit_code == 0
    first = (tmp_path / "a" / "s.cfg").read_text()
    again = run()
    assert again.exit_code == 1
    assert "there already" in " ".join(again.output.split())
    assert run("--force", "--layers", "2").exit_code == 0
    assert (tmp_path / "a" / "s.cfg").read_text() != first
    decoder = run("--force", "--decoder-layers", "1")
    assert decoder.exit_code == 1
    assert "no component of the teacher has one" in " ".join(decoder.output.split())
    nowhere = CliRunner().invoke(app, ["distil", "init-config", str(tmp_path / "none"), str(tmp_path / "n.cfg")])
    assert nowhere.exit_code == 1
    assert not (tmp_path / "n.cfg").exists()


def test_a_component_with_an_encoder_of_its_own_keeps_one_of_fewer_layers(distilbert_folder, tmp_path):
    nlp = spacy.blank("en")
    encoder = {"@architectures": "spacy-distil.DistilBert.v1", "name": str(distilbert_folder), "max_batch_pieces": 64}
    nlp.add_pipe("distilbert_mlm", config={"model": {"encoder": encoder}, "top_k": 3})
    nlp.initialize()
    nlp.to_disk(tmp_path / "mlm")
    config = make_student_config(str(tmp_path / "mlm"))
    assert config["nlp"]["pipeline"] == ["distilbert_mlm"]
    block = config["components"]["distilbert_mlm"]
    assert block["top_k"] == 3
    assert block["model"]["encoder"]["name"] == str(tmp_path / "mlm" / "distilbert_mlm")
    assert block["model"]["encoder"]["layers"] == [0, 2]


def test_a_student_gives_tokens_what_its_teacher_gives_them(distilbert_folder, tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("distilbert", config={"model": {"name": str(distilbert_folder), "pooling": "first"}})
    nlp.add_pipe("entity_tagger")
    nlp.config["initialize"]["components"]["entity_tagger"] = {"labels": ["O", "B-PER", "I-PER"]}
    nlp.initialize()
    nlp.to_disk(tmp_path / "first")
    assert make_student_config(str(tmp_path / "first"))["components"]["distilbert"]["model"]["pooling"] == "first"


def test_what_annotates_in_the_teachers_training_does_in_the_students(distilbert_folder, tmp_path):
    """A summariser needs sentences while it learns; the teacher's own encoder has no place in the student."""
    teacher = on_distilbert(distilbert_folder)
    teacher.add_pipe("sentencizer", name="sentences")
    teacher.config["training"]["annotating_components"] = ["sentences", "distilbert"]
    teacher.to_disk(tmp_path / "teacher")
    config = make_student_config(str(tmp_path / "teacher"))
    assert config["training"]["annotating_components"] == ["sentences"]
