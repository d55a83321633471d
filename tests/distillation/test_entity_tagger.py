"""An `entity_tagger` learns from another by the distiller of taggers; where nothing is annotated, agreement is scored."""

from __future__ import annotations

import pytest
import spacy
from spacy.language import Language
from thinc.api import Adam, fix_random_seed

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.errors import LabelError
from spacy_distil.distillation.gold import has_gold, take_over
from spacy_distil.distillation.pipes import find_distiller, tokens
from spacy_distil.distillation.teacher import bare_docs

from .toy import example, lesson, sentences

TOK2VEC = {
    "@architectures": "spacy.HashEmbedCNN.v2",
    "pretrained_vectors": None,
    "width": 24,
    "depth": 1,
    "embed_size": 200,
    "window_size": 1,
    "maxout_pieces": 2,
    "subword_features": False,
}


def build(seed: int, scheme: str = "bio") -> Language:
    fix_random_seed(seed)
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_tagger", config={"scheme": scheme, "model": {"tok2vec": TOK2VEC}})
    nlp.initialize(lambda: [example(doc, nlp.vocab) for doc in sentences(10, seed=0, annotate="topics")])
    return nlp


@pytest.fixture(scope="module")
def teacher() -> Language:
    nlp = build(seed=1)
    optimizer = Adam(0.01)
    for seed in range(20):
        docs = sentences(16, seed=seed, annotate="topics", vocab=nlp.vocab)
        nlp.update([example(doc, nlp.vocab) for doc in docs], sgd=optimizer)
    return nlp


def test_a_student_learns_entities_from_its_teacher_alone(teacher):
    student = build(seed=2)
    pipe = student.get_pipe("entity_tagger")
    distiller = find_distiller(pipe)
    assert distiller is not None
    assert distiller.ask is tokens.ask
    distiller.check(pipe, teacher.get_pipe("entity_tagger"))
    optimizer = Adam(0.01)
    for seed in range(30):
        batch = [example(doc, student.vocab) for doc in sentences(16, seed=100 + seed, vocab=student.vocab)]
        lessons = [lesson(teacher, "entity_tagger", [eg.x for eg in batch])]
        tokens.update(pipe, lessons, Batch(batch, 0.0, 2.0, soft_weight=1.0, gold_weight=0.0))
        pipe.finish_update(optimizer)
    texts = [doc.text for doc in sentences(20, seed=999)]
    said = [[[(ent.text, ent.label_) for ent in doc.ents] for doc in nlp.pipe(texts)] for nlp in (teacher, student)]
    assert any(said[0])
    assert sum(a == b for a, b in zip(*said, strict=True)) >= 18


def test_another_scheme_is_another_set_of_labels(teacher):
    with pytest.raises(LabelError):
        tokens.check(build(seed=2, scheme="bilou").get_pipe("entity_tagger"), teacher.get_pipe("entity_tagger"))


def test_annotated_entities_are_its_gold_and_can_be_taken_over(teacher):
    pipe = teacher.get_pipe("entity_tagger")
    annotated, bare = sentences(1, seed=5, annotate="topics")[0], sentences(1, seed=5)[0]
    assert has_gold(pipe, annotated)
    assert not has_gold(pipe, bare)
    said = teacher(bare_docs([bare], teacher.vocab)[0])
    take_over(pipe, said, bare)
    assert [(ent.text, ent.label_) for ent in bare.ents] == [(ent.text, ent.label_) for ent in said.ents]
    assert has_gold(pipe, bare)
