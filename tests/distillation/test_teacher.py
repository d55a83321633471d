import json
import shutil

import pytest
import spacy
from spacy.tokens import Doc

from spacy_distil.distillation.errors import TeacherError
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
    annotated = Teacher(teacher, ["textcat", "ner"]).annotate(docs)
    assert all(doc.vocab is teacher.vocab for doc in annotated)
    assert [[t.text_with_ws for t in doc] for doc in annotated] == [[t.text_with_ws for t in doc] for doc in docs]
    scores = teacher.get_pipe("textcat").predict(annotated)
    for doc, row in zip(docs[:-1], scores, strict=False):
        cats = teacher(Doc(teacher.vocab, words=[t.text for t in doc])).cats
        assert [cats[label] for label in teacher.get_pipe("textcat").labels] == pytest.approx(list(row), abs=1e-5)


def test_only_what_the_components_need_is_run():
    nlp = spacy.blank("en")
    for name in ("first", "second"):
        nlp.add_pipe("tok2vec", name=name)
        model = {"@architectures": "spacy.Tok2VecListener.v1", "width": 96, "upstream": name}
        config = {"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": model}}
        nlp.add_pipe("tagger", name=f"{name}_tagger", config=config).add_label("A")
    nlp.add_pipe("sentencizer", first=True)
    nlp.initialize()
    assert Teacher(nlp, ["second_tagger"])._upstream == ["second"]
    assert Teacher(nlp, ["second_tagger", "first_tagger"])._upstream == ["first", "second"]
    nlp.config["training"]["annotating_components"] = ["sentencizer", "first_tagger"]
    assert Teacher(nlp, ["second_tagger"])._upstream == ["sentencizer", "first", "first_tagger", "second"]
