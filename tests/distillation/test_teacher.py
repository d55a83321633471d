import json
import shutil

import numpy
import pytest
import spacy
from spacy.tokens import Doc
from thinc.api import fix_random_seed

from spacy_distil.distillation.errors import TeacherError
from spacy_distil.distillation.pipes import find_distiller
from spacy_distil.distillation.teacher import Teacher, load_teacher

from .toy import example, sentences


@pytest.fixture(autouse=True)
def nothing_loaded():
    load_teacher.cache_clear()


def test_teacher_is_loaded_once(teacher_path):
    assert load_teacher(str(teacher_path)) is load_teacher(str(teacher_path))


def test_no_pipeline_is_an_error(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(TeacherError, match="is no pipeline"):
            load_teacher(str(path))


def test_damaged_meta_is_an_error_that_names_the_teacher(teacher_path, tmp_path):
    damaged = shutil.copytree(teacher_path, tmp_path / "damaged")
    (damaged / "meta.json").write_text("{")
    with pytest.raises(TeacherError, match="damaged' can't be loaded"):
        load_teacher(str(damaged))


@pytest.mark.parametrize(
    ("old", "new"),
    [('factory = "ner"', 'factory = "unheard_of"'), ("spacy.TextCatReduce.v1", "unheard-of.Model.v1")],
)
def test_missing_package_is_an_error_that_names_the_requirements(old, new, teacher_path, tmp_path):
    path = shutil.copytree(teacher_path, tmp_path / "teacher")
    config, meta = path / "config.cfg", path / "meta.json"
    config.write_text(config.read_text().replace(old, new))
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "requirements": ["unheard-of>=1"]}))
    with pytest.raises(TeacherError) as error:
        load_teacher(str(path))
    assert new.split('"')[-2 if '"' in new else 0] in str(error.value)
    assert "unheard-of>=1" in str(error.value)


def test_teacher_scores_the_students_tokens_as_it_does_in_its_own_pipeline(teacher):
    vocab = spacy.blank("en").vocab
    docs = [example(doc, vocab).x for doc in sentences(5, seed=3)] + [Doc(vocab)]
    seen = []

    def ask(pipe, docs, premises):
        seen.extend(docs)
        return [{"scores": row} for row in pipe.predict(docs)]

    answers = Teacher(teacher, ["textcat"]).hear(docs).ask("textcat", ask)
    assert all(doc.vocab is teacher.vocab for doc in seen)
    assert [[t.text_with_ws for t in doc] for doc in seen] == [[t.text_with_ws for t in doc] for doc in docs]
    for doc, answer in zip(docs[:-1], answers, strict=False):
        cats = teacher(Doc(teacher.vocab, words=[t.text for t in doc])).cats
        assert [cats[label] for label in teacher.get_pipe("textcat").labels] == pytest.approx(
            list(answer["scores"]), abs=1e-5
        )


@pytest.fixture(scope="module")
def with_two_encoders():
    fix_random_seed(0)
    nlp = spacy.blank("en")
    for name in ("first", "second"):
        nlp.add_pipe("tok2vec", name=name)
        model = {"@architectures": "spacy.Tok2VecListener.v1", "width": 96, "upstream": name}
        config = {"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": model}}
        nlp.add_pipe("tagger", name=f"{name}_tagger", config=config)
        for label in ("A", "B", "C"):
            nlp.get_pipe(f"{name}_tagger").add_label(label)
    nlp.add_pipe("sentencizer", first=True)
    nlp.initialize()
    for name in ("first_tagger", "second_tagger"):
        layer = nlp.get_pipe(name).model.layers[-1].layers[0]
        layer.set_param("W", numpy.random.default_rng(0).normal(size=(3, 96)).astype("f"))
    return nlp


def test_only_what_a_component_needs_is_run(with_two_encoders, monkeypatch):
    nlp = with_two_encoders
    teacher = Teacher(nlp, ["first_tagger", "second_tagger"])
    assert teacher.upstream("second_tagger") == ["second"]
    assert teacher.upstream("first_tagger") == ["first"]
    assert Teacher(nlp, ["first_tagger"], encoder="second").upstream("second") == ["second"]
    monkeypatch.setitem(nlp.config["training"], "annotating_components", ["sentencizer", "first_tagger"])
    assert teacher.upstream("second_tagger") == ["sentencizer", "first", "first_tagger", "second"]


@pytest.mark.parametrize("order", [["first", "second"], ["second", "first"], ["first", "second", "first"]])
def test_each_component_reads_its_own_encoder(order, with_two_encoders):
    """All encoders leave their rows in `doc.tensor`."""
    nlp = with_two_encoders
    docs = sentences(3, seed=3)
    hearing = Teacher(nlp, ["first_tagger", "second_tagger"]).hear(docs)
    for name in order:
        tagger = f"{name}_tagger"
        answers = hearing.ask(tagger, find_distiller(nlp.get_pipe(tagger)).ask)
        with nlp.select_pipes(enable=[name, tagger]):
            said = [nlp(Doc(nlp.vocab, words=[t.text for t in doc])) for doc in docs]
        labels = nlp.get_pipe(tagger).labels
        assert [[labels[i] for i in a["logits"].argmax(1)] for a in answers] == [[t.tag_ for t in doc] for doc in said]
