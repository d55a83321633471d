"""A student of each family of components, taught on bare text, comes to say what its teacher says: by spaCy's own scores."""

from collections.abc import Iterator

import pytest
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.util import minibatch
from spacy.vocab import Vocab
from thinc.api import Adam

from .toy import attached
from .treebank import bare, blank_pipeline, gold

SCORES = {
    "tagger": "tag_acc",
    "morphologizer": "morph_acc",
    "senter": "sents_f",
    "trainable_lemmatizer": "lemma_acc",
    "parser": "dep_las",
    "beam_ner": "ents_f",
    "spancat": "spans_sc_f",
    "spancat_singlelabel": "spans_sc_f",
    "span_finder": "spans_sc_f",
    "entity_linker": "nel_micro_f",
}


def pipeline(factory: str, seed: int) -> Language:
    nlp = blank_pipeline(factory, seed=seed)
    if factory == "entity_linker":
        nlp.add_pipe("sentencizer", first=True)
    return nlp


def said_by(teacher: Language, examples: list[Example]) -> list[Example]:
    """The same with the teacher's annotation for gold."""
    docs = []
    for eg in examples:
        doc = Doc(teacher.vocab, words=[token.text for token in eg.x])
        doc.ents = [Span(doc, ent.start, ent.end, ent.label_) for ent in eg.y.ents]
        docs.append(doc)
    return [Example(eg.x, doc) for eg, doc in zip(examples, teacher.pipe(docs), strict=True)]


def unlabelled(factory: str, n: int, *, seed: int, vocab: Vocab) -> list[Example]:
    if factory != "entity_linker":
        return bare(n, seed=seed, vocab=vocab)
    examples = gold(n, seed=seed, vocab=vocab)
    for eg in examples:  # where the entities are it must know, but not what they are
        eg.reference.ents = [Span(eg.y, ent.start, ent.end, ent.label_) for ent in eg.y.ents]
    return examples


def minibatches(examples: list[Example], *, epochs: int) -> Iterator[list[Example]]:
    for _ in range(epochs):
        yield from minibatch(examples, 6)


@pytest.mark.parametrize("factory", SCORES)
def test_student_comes_to_score_high_against_its_teacher(factory):
    teacher, student = pipeline(factory, seed=1), pipeline(factory, seed=2)
    annotates = ["sentencizer"] if factory == "entity_linker" else []
    sgd = Adam(0.02)
    for batch in minibatches(gold(72, seed=1, vocab=teacher.vocab), epochs=4):
        teacher.update(batch, sgd=sgd, annotates=annotates)
    update, sgd = attached(student, teacher, components=("head",), gold_weight=0.0), Adam(0.02)
    dev = said_by(teacher, unlabelled(factory, 20, seed=2, vocab=student.vocab))
    before = student.evaluate(dev)[SCORES[factory]] or 0.0
    for batch in minibatches(unlabelled(factory, 72, seed=3, vocab=student.vocab), epochs=8):
        update(batch, sgd=sgd, annotates=annotates)
    after = student.evaluate(dev)[SCORES[factory]]
    assert after > max(0.9, before)
