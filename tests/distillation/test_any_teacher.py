"""Teachers of every make: other encoders, tokenisers and vocabularies, several at once, from memory or from the cache."""

from pathlib import Path

import numpy
import pytest
import spacy
from spacy.language import Language
from spacy.tokenizer import Tokenizer
from spacy.tokens import Doc, Token
from thinc.api import Adam, fix_random_seed

from spacy_distil.distillation.answers import AnswerStore
from spacy_distil.distillation.attach import attach
from spacy_distil.distillation.components import choose_components
from spacy_distil.distillation.errors import LabelError, TeacherError
from spacy_distil.distillation.pipes import find_distiller
from spacy_distil.distillation.teacher import Teacher
from spacy_distil.distillation.update import DistillationUpdate

from .curated import add_curated
from .toy import HEADS, attached, build, examples, sentences, settings


def with_transformer(folder: Path) -> Language:
    """spacy-transformers' component under a tagger."""
    pytest.importorskip("spacy_transformers")
    fix_random_seed(0)
    nlp = spacy.blank("en")
    model = {"@architectures": "spacy-transformers.TransformerModel.v3", "name": str(folder)}
    model["get_spans"] = {"@span_getters": "spacy-transformers.doc_spans.v1"}
    nlp.add_pipe("transformer", config={"model": model})
    listener = {"@architectures": "spacy-transformers.TransformerListener.v1", "pooling": {"@layers": "reduce_mean.v1"}}
    add_tagger(nlp, {**listener, "grad_factor": 0.0})  # its tiny random encoder is better left alone
    return nlp


def with_curated(folder: Path) -> Language:
    """spacy-curated-transformers' component under a tagger. The package, 0.3.1, does not train with numpy 2.4: the weights are
    those of least squares."""
    fix_random_seed(0)
    nlp = spacy.blank("en")
    add_curated(nlp, folder)
    listener = {"@architectures": "spacy-curated-transformers.LastTransformerLayerListener.v1", "width": 32}
    add_tagger(nlp, {**listener, "pooling": {"@layers": "reduce_mean.v1"}}, updates=0)
    tagger = nlp.get_pipe("tagger")
    docs = list(nlp.pipe(doc.text for doc in sentences(30, seed=0)))
    states = numpy.concatenate(tagger.model.get_ref("tok2vec").predict(docs))
    tags = [[tag_of(token) == label for label in tagger.labels] for doc in docs for token in doc]
    softmax = tagger.model.get_ref("softmax")
    for param, value in zip("Wb", _least_squares(states, numpy.array(tags)), strict=True):
        softmax.set_param(param, value)
    return nlp


def _least_squares(x: numpy.ndarray, y: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """(rows, n_in) and (rows, n_out) -> weights (n_out, n_in) and bias (n_out,)"""
    solution = 30 * numpy.linalg.lstsq(numpy.c_[x, numpy.ones(len(x))], y, rcond=None)[0]
    return solution[:-1].T.astype("f"), solution[-1].astype("f")


def with_vectors(folder: Path) -> Language:
    """Static vectors, which are the teacher's own: the student's vocabulary has none."""
    nlp = spacy.blank("en")
    rng = numpy.random.default_rng(0)
    for word in {token.text for doc in sentences(30, seed=0) for token in doc}:
        nlp.vocab.set_vector(word, rng.normal(size=12).astype("f"))
    fix_random_seed(0)
    tok2vec = {"@architectures": "spacy.HashEmbedCNN.v2", "pretrained_vectors": True, "width": 16, "depth": 1}
    tok2vec |= {"embed_size": 100, "window_size": 1, "maxout_pieces": 2, "subword_features": False}
    add_tagger(nlp, tok2vec)
    return nlp


def with_other_tokens(folder: Path) -> Language:
    nlp = spacy.blank("de")
    nlp.tokenizer = Tokenizer(nlp.vocab)  # nothing but white space divides
    fix_random_seed(0)
    add_tagger(nlp, {"@architectures": "spacy.HashEmbedCNN.v2", **plain_encoder()})
    return nlp


def plain_encoder() -> dict:
    encoder = {"pretrained_vectors": None, "width": 16, "depth": 1, "embed_size": 100}
    return {**encoder, "window_size": 1, "maxout_pieces": 2, "subword_features": True}


def add_tagger(nlp: Language, tok2vec: dict, updates: int = 40) -> None:
    nlp.add_pipe("tagger", config={"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": tok2vec}})

    def tagged():
        egs = examples(10, seed=0, vocab=nlp.vocab)
        for eg in egs:
            for token in eg.reference:
                token.tag_ = tag_of(token)
        return egs

    nlp.initialize(tagged, sgd=Adam(0.01))
    for _ in range(updates):
        nlp.update(tagged())


def tag_of(token: Token) -> str:
    return "NAME" if token.text.istitle() else "WORD" if token.is_alpha else "SIGN"


MAKES = {
    "transformer": with_transformer,
    "curated": with_curated,
    "vectors": with_vectors,
    "other tokens": with_other_tokens,
}


def tagging_student(folder: Path) -> Language:
    nlp = spacy.blank("en")
    nlp.add_pipe("distilbert", config={"model": {"name": str(folder), "layers": [0], "precision": "float32"}})
    listener = {"@architectures": "spacy-distil.DistilBertListener.v1"}
    nlp.add_pipe("tagger", config={"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": listener}})
    nlp.config["initialize"]["components"]["tagger"] = {"labels": ["NAME", "SIGN", "WORD"]}
    fix_random_seed(0)
    nlp.initialize(lambda: examples(10, seed=0, vocab=nlp.vocab), sgd=Adam(0.01))
    return nlp


@pytest.mark.parametrize("make", MAKES)
def test_student_learns_from_it_what_it_says_itself(make, bert_folder, distilbert_folder):
    teacher = MAKES[make](bert_folder if make == "curated" else distilbert_folder)
    student = tagging_student(distilbert_folder)
    student.update = attached(student, teacher, components=("tagger",))
    for seed in range(40):
        student.update(examples(8, seed=seed, vocab=student.vocab))
    docs = sentences(10, seed=99)
    said, learnt = (
        [[t.tag_ for t in nlp(Doc(nlp.vocab, words=[t.text for t in doc]))] for doc in docs]
        for nlp in (teacher, student)
    )
    same = numpy.mean([a == b for x, y in zip(said, learnt, strict=True) for a, b in zip(x, y, strict=True)])
    assert len({tag for tags in said for tag in tags}) == 3
    # Two of three words have the commonest tag. A teacher by least squares is less sure of what it says.
    assert same > (0.8 if make == "curated" else 0.9)


def answers(teacher: Teacher, name: str, docs: list[Doc]) -> list[dict]:
    return teacher.hear(docs).ask(name, find_distiller(teacher.nlp.get_pipe(name)).ask)


def assert_equal(one: list[dict], other: list[dict], **tolerance: float) -> None:
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            numpy.testing.assert_allclose(a[key], b[key], **tolerance)


@pytest.mark.parametrize("name", HEADS)
def test_second_epoch_does_not_run_the_teacher(name, teacher, tmp_path, monkeypatch):
    docs = [*sentences(6, seed=5), Doc(teacher.vocab)]
    first = answers(Teacher(teacher, [name], AnswerStore(tmp_path, max_bytes=10**7)), name, docs)
    again = Teacher(teacher, [name], AnswerStore(tmp_path, max_bytes=10**7))
    monkeypatch.setattr(again, "annotate", None)
    assert_equal(first, answers(again, name, docs), rtol=2e-3, atol=2e-3)  # half precision


def test_texts_that_are_new_are_asked_alone(teacher, tmp_path):
    docs = sentences(6, seed=5)
    asked = []
    listening = Teacher(teacher, ["ner"], AnswerStore(tmp_path, max_bytes=10**7))
    annotate = listening.annotate
    listening.annotate = lambda docs, names: asked.append(len(docs)) or annotate(docs, names)  # type: ignore
    first = answers(listening, "ner", docs[:4])
    mixed = answers(listening, "ner", [docs[5], *docs[2:4], docs[4]])
    assert asked == [4, 2]
    assert_equal(mixed[1:3], first[2:], rtol=2e-3, atol=2e-3)
    assert_equal(mixed[:1], answers(Teacher(teacher, ["ner"]), "ner", [docs[5]]), atol=1e-5)


def test_another_text_teacher_or_component_is_never_a_hit(teacher, tmp_path):
    store = AnswerStore(tmp_path, max_bytes=10**7)
    one = Teacher(teacher, ["textcat", "textcat_multilabel"], store)
    other = Teacher(build(width=32), ["textcat"], store)
    doc = sentences(1, seed=5)[0]
    divided = Doc(
        doc.vocab, words=["Al", "ma", *[t.text for t in doc[1:]]], spaces=[False, *[True] * len(doc)][: len(doc) + 1]
    )
    asked = [
        answers(one, "textcat", [doc])[0]["logits"],
        answers(one, "textcat_multilabel", [doc])[0]["logits"],
        answers(one, "textcat", [divided])[0]["logits"],
        answers(other, "textcat", [doc])[0]["logits"],
    ]
    assert len({tuple(logits.ravel()) for logits in asked}) == 4
    fresh = answers(Teacher(teacher, ["textcat_multilabel"]), "textcat_multilabel", [doc])
    numpy.testing.assert_allclose(asked[1], fresh[0]["logits"], atol=1e-5)


def test_student_trained_from_the_cache_learns_the_same(teacher, tmp_path):
    losses = []
    for folder in (None, tmp_path, tmp_path):
        nlp = build()
        store = None if folder is None else AnswerStore(folder, max_bytes=10**7)
        taught = {name: [0] for name in HEADS}
        nlp.update = DistillationUpdate(nlp, [Teacher(teacher, HEADS, store)], taught, settings())
        fix_random_seed(0)
        losses.append([sum(nlp.update(examples(4, seed=seed, vocab=nlp.vocab)).values()) for seed in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] == pytest.approx(losses[2], rel=1e-2)


def test_several_teachers_are_averaged(teacher):
    """Two of one mind are as one; a second opinion counts."""
    totals = []
    for teachers in ([teacher], [teacher, teacher], [teacher, build(width=32)]):
        nlp = build()
        nlp.update = attached(nlp, *teachers)
        fix_random_seed(0)
        totals.append(nlp.update(examples(6, seed=1, vocab=nlp.vocab), sgd=False))
    for name in HEADS:
        assert totals[0][name] == pytest.approx(totals[1][name], rel=1e-4)
        assert totals[2][name] < 0.9 * totals[0][name]  # an untrained one is as undecided as the student


def test_each_component_learns_from_those_that_have_it(teacher, teacher_path, tmp_path):
    one = build(heads=("ner",), shared=False)
    student = build()
    assert choose_components(student, [one, teacher]) == {"ner": [0, 1], "textcat": [1], "textcat_multilabel": [1]}
    one.to_disk(tmp_path / "one")
    student.config["distillation"] = {"teacher": [str(tmp_path / "one"), str(teacher_path)]}
    attach(student)
    assert student.update(examples(2, seed=0, vocab=student.vocab))["textcat"] > 0
    one.get_pipe("ner").add_label("MARTIAN")
    with pytest.raises(LabelError, match="'MARTIAN'"):
        choose_components(build(), [teacher, one])
    with pytest.raises(TeacherError, match="parser"):
        choose_components(build(), [one, teacher], ["parser"])
