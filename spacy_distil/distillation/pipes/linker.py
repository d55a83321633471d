"""Distils `entity_linker`: for each entity, an encoding of its context, which stands near those of the right entries in the
knowledge base.

The student learns the direction of the teacher's encodings. It is what spaCy compares with the knowledge base, so both need
the same one.
"""

from collections.abc import Sequence
from itertools import islice

import numpy
from spacy.kb import InMemoryLookupKB
from spacy.pipeline import EntityLinker
from spacy.strings import StringStore
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import set_dropout_rate

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.gold import has_gold
from spacy_distil.distillation.lessons import Answer, Array, Lesson

CONTEXT: list[int | str] = ["ENT_IOB", "ENT_TYPE", "SENT_START"]
"""What the encoder reads beside the tokens: the entities, and the sentences that they stand in."""
UNKNOWN = "unknown"
"""What a teacher calls an entity whose label it never heard of."""
SMALLEST_NORM = 1e-8
"""An encoding of zeros has no direction, and adds nothing to the mean."""
KB_SAMPLE = 100
"""Entries in both knowledge bases whose vectors are compared before training."""


def check(student: EntityLinker, teacher: EntityLinker) -> None:
    widths = [pipe.kb.entity_vector_length for pipe in (student, teacher)]
    if widths[0] != widths[1]:
        raise DistillationError(
            f"Component '{student.name}': the student encodes entities in {widths[0]} numbers, the teacher in {widths[1]}. "
            "Give the student the teacher's knowledge base, by `kb_loader` in "
            f"[initialize.components.{student.name}], or one of the same vectors."
        )
    other = _different_entry(student.kb, teacher.kb)
    if other is not None:
        raise DistillationError(
            f"Component '{student.name}': the entry '{other}' has one vector in the student's knowledge base and another in "
            "the teacher's, so that the teacher's encodings mean nothing to the student. Give it the teacher's knowledge "
            f"base, by `kb_loader` in [initialize.components.{student.name}]."
        )


def premises(student: EntityLinker, examples: Sequence[Example]) -> list[Array]:
    """(tokens, 3): see `CONTEXT`."""
    return [example.predicted.to_array(CONTEXT) for example in _with_entities(student, examples)]


def ask(teacher: EntityLinker, docs: Sequence[Doc], premises: Sequence[Array]) -> list[Answer]:
    """encodings: (entities, width)"""
    ops = teacher.model.ops
    own: list[Array] = [doc.to_array(CONTEXT) for doc in docs]
    try:
        for doc, context in zip(docs, premises, strict=True):
            doc.from_array(CONTEXT, _with_known_labels(context, doc.vocab.strings))
        lengths = [len(doc.ents) for doc in docs]
        rows = teacher.model.predict(docs) if sum(lengths) else ops.alloc2f(0, teacher.kb.entity_vector_length)
    finally:
        for doc, context in zip(docs, own, strict=True):  # other components read the same documents
            doc.from_array(CONTEXT, context)
    return [{"encodings": part} for part in ops.unflatten(rows, ops.asarray1i(lengths))]


def update(student: EntityLinker, lessons: Sequence[Lesson], batch: Batch) -> float:
    """Both gradients are those of the component's own distance, from the teacher's encodings and from the vectors of the
    right entries. The soft loss is its sum over entities; spaCy's own, its mean: read the whole as a trend. A temperature
    has no meaning here."""
    examples = _with_entities(student, batch.examples)
    docs = [example.predicted for example in examples]
    annotated = [example for example in examples if has_gold(student, example.reference)]
    gold_weight = batch.gold_weight if annotated and student.batch_has_learnable_example(examples) else 0.0
    if not (lessons or gold_weight) or not any(doc.ents for doc in docs):
        return 0.0
    if gold_weight:
        student.validate_kb()
    ops = student.model.ops
    set_dropout_rate(student.model, batch.drop)
    encodings, backprop = student.model.begin_update(docs)
    gradient = ops.xp.zeros_like(encodings)
    loss = 0.0
    if lessons:
        target = _mean_direction(student, lessons)
        gradient += batch.soft_weight * student.distance.get_grad(encodings, target)
        loss += batch.soft_weight * float(student.distance.get_loss(encodings, target))
    if gold_weight:
        rows = _gold_rows(student, examples)
        gold, d_gold = student.get_loss(examples=annotated, sentence_encodings=encodings[rows])
        gradient[rows] += gold_weight * d_gold
        loss += gold_weight * float(gold)
    backprop(gradient)
    return loss


def _with_known_labels(context: Array, strings: StringStore) -> Array:
    """The context with another label for those that the teacher never heard of: the encoder sees none, but a Doc can't give
    the entities of a label whose name it lacks."""
    types = context[:, CONTEXT.index("ENT_TYPE")]
    unknown = [label for label in set(types.tolist()) if label and label not in strings]
    if unknown:
        context = context.copy()
        context[numpy.isin(types, unknown), CONTEXT.index("ENT_TYPE")] = strings.add(UNKNOWN)
    return context


def _with_entities(student: EntityLinker, examples: Sequence[Example]) -> list[Example]:
    """The examples with the entities that are linked: the corpus's, where it has any annotation of them and `use_gold_ents`
    asks for them, as in spaCy's own update; else those that a component has set on the student's document."""
    return [
        next(iter(student._ensure_ents([example])))
        if student.use_gold_ents and example.reference.has_annotation("ENT_IOB")
        else example
        for example in examples
    ]


def _gold_rows(student: EntityLinker, examples: Sequence[Example]) -> list[int]:
    """Numbers of the entities for which the corpus has an entry, and which spaCy's `get_loss` takes to be all there are."""
    rows, row = [], 0
    for example in examples:
        known = {ent.start for ent in example.get_matching_ents()} if has_gold(student, example.reference) else set()
        for ent in example.predicted.ents:
            if ent.start in known:
                rows.append(row)
            row += 1
    return rows


def _mean_direction(student: EntityLinker, lessons: Sequence[Lesson]) -> Array:
    """(entities, width): one teacher's encodings; of several, the mean of their directions."""
    ops = student.model.ops
    each = [
        ops.asarray2f(lesson.teacher.model.ops.xp.concatenate([answer["encodings"] for answer in lesson.answers]))
        for lesson in lessons
    ]
    if len(each) == 1:
        return each[0]
    norms = [ops.xp.linalg.norm(rows, axis=1, keepdims=True) for rows in each]
    return sum(rows / ops.xp.maximum(norm, SMALLEST_NORM) for rows, norm in zip(each, norms, strict=True)) / len(each)


def _different_entry(student: InMemoryLookupKB, teacher: InMemoryLookupKB) -> str | None:
    if not (isinstance(student, InMemoryLookupKB) and isinstance(teacher, InMemoryLookupKB)):
        return None
    common = set(student.get_entity_strings()).intersection(teacher.get_entity_strings())
    sample = islice(sorted(common), KB_SAMPLE)
    return next(
        (name for name in sample if not numpy.allclose(student.get_vector(name), teacher.get_vector(name))), None
    )
