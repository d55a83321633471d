"""Distils `ner` and `parser`: a row of scores, one for each move, in every state that a transition system passes through.

The student walks along its own moves, as in spaCy's own training, and learns in each state what the teacher would have scored
there: a step model reads token indices only, so that both can score the same state. Where the corpus has annotation, spaCy's
dynamic oracle adds, in the same state, what the gold analysis asks for.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy
from spacy.ml.parser_model import ParserStepModel
from spacy.pipeline import DependencyParser
from spacy.pipeline.transition_parser import Parser
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import set_dropout_rate

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.heads import Head, mean_logits
from spacy_distil.distillation.labels import align, check_corpus, pick_columns
from spacy_distil.distillation.lessons import Answer, Array, Lesson
from spacy_distil.distillation.losses import softmax_kl

Start = tuple[Any, Any]
"""A state, and the oracle's view of its document; None where that has no annotation."""
Score = Callable[[Sequence[Any]], numpy.ndarray]
"""The teachers' scores of some states, (states, moves), in the student's order of moves."""


def check(student: Parser, teacher: Parser) -> None:
    align(student.name, student.labels, teacher.labels)
    align(student.name, _moves(student), _moves(teacher))


def ask(teacher: Parser, docs: Sequence[Doc], premises: Sequence[Array]) -> list[Answer]:
    """tokens: (tokens, hidden width), from which the two small layers above score any state: what states there will be
    depends on the student."""
    rows = teacher.model.get_ref("tok2vec").predict(docs)
    ends = numpy.cumsum([len(doc) for doc in docs])
    return [{"tokens": rows[end - len(doc) : end]} for doc, end in zip(docs, ends, strict=True)]


def update(student: Parser, lessons: Sequence[Lesson], batch: Batch) -> float:
    """Losses and gradients are sums over states, as spaCy's are; the gold loss is spaCy's own, the sum of the squared
    gradient. The loss adds up both: read it as a trend. A component that searches with a beam is taught as one that does
    not; without a teacher it learns as spaCy lets it."""
    if not lessons and batch.gold_weight == 1 and student.cfg["beam_width"] > 1:
        losses: dict[str, float] = {}
        student.update(batch.examples, drop=batch.drop, losses=losses)
        return float(losses[student.name])
    max_moves = _draw_cut_size(student)
    if not lessons:
        student._ensure_labels_are_added([example.reference for example in batch.examples])
        return _learn(student, _gold_starts(student, batch, max_moves), None, batch, max_moves)
    # spaCy gives a move that the corpus has not shown no gradient, but the teacher knows it.
    student.model.attrs["unseen_classes"].clear()
    steps = [_step_model(lesson, batch.docs) for lesson in lessons]
    columns = [align(student.name, _moves(student), _moves(lesson.teacher)) for lesson in lessons]

    def score(states: Sequence[Any]) -> numpy.ndarray:
        each = [pick_columns(step.predict(states), order) for step, order in zip(steps, columns, strict=True)]
        return numpy.ascontiguousarray(mean_logits(Head.SOFTMAX, each))

    loss = _learn(student, _teacher_starts(student, score, batch, max_moves), score, batch, max_moves)
    for step in steps:
        step.clear_memory()
    return loss


def _step_model(lesson: Lesson, docs: Sequence[Doc]) -> ParserStepModel:
    """The teacher's model of single states, as its own `predict` makes it, on what it said of the tokens. Never
    `begin_update`: that drops out a tenth of the states, whatever the dropout rate."""
    model = lesson.teacher.model
    rows = model.ops.xp.concatenate([answer["tokens"] for answer in lesson.answers])
    return ParserStepModel(
        docs,
        [lambda _, is_train: (rows, None), *model.layers[1:]],
        has_upper=model.attrs["has_upper"],
        unseen_classes=model.attrs["unseen_classes"],
        train=False,
    )


def _learn(student: Parser, starts: list[Start], score: Score | None, batch: Batch, max_moves: int) -> float:
    """Follow the student's moves from the start states, and backpropagate what teachers and gold say in each state."""
    if not starts:
        return 0.0
    set_dropout_rate(student.model, batch.drop)
    step, backprop_tokens = student.model.begin_update(batch.docs)
    loss, n_moves = 0.0, 0
    while starts:
        states = [state for state, _ in starts]
        scores, backprop = step.begin_update(states)
        gradient = numpy.zeros_like(scores)
        if score is not None:
            soft, d_soft = softmax_kl(scores, score(states), batch.temperature)
            gradient += batch.soft_weight * d_soft
            loss += batch.soft_weight * soft
        annotated = [i for i, (_, gold) in enumerate(starts) if gold is not None]
        if annotated:
            d_gold = _gold_gradient(student, [starts[i] for i in annotated], scores[annotated])
            gradient[annotated] += batch.gold_weight * d_gold
            loss += batch.gold_weight * float((d_gold**2).sum())
        backprop(gradient)
        student.transition_states(states, scores)
        starts = _unfinished(starts)
        if 1 <= max_moves <= n_moves:
            break
        n_moves += 1
    backprop_tokens(batch.docs)
    step.clear_memory()
    return loss


def _gold_gradient(student: Parser, starts: list[Start], scores: numpy.ndarray) -> numpy.ndarray:
    states, golds = zip(*starts, strict=True)
    return student.get_batch_loss(states, golds, numpy.ascontiguousarray(scores), None)


def _teacher_starts(student: Parser, score: Score, batch: Batch, max_moves: int) -> list[Start]:
    """The state at the start of each document, and in a long one another every `max_moves` moves along the teacher's
    path, as spaCy cuts along the gold one: a batch then takes few steps, each of many states."""
    if batch.gold_weight:
        _check_gold_labels(student, batch.examples)
    starts: list[Start] = []
    long: list[Start] = []
    for state, example in zip(student.moves.init_batch(batch.docs), batch.examples, strict=True):
        if state.is_final():
            continue
        annotated = batch.gold_weight and student.moves.has_gold(example)
        start = (state, student.moves.init_gold(state, example) if annotated else None)
        (long if 1 <= max_moves <= len(example.predicted) else starts).append(start)
    while long:
        starts += [(state.copy(), gold) for state, gold in long]
        for _ in range(max_moves):
            states = [state for state, _ in long]
            student.transition_states(states, score(states))
            long = _unfinished(long)
            if not long:
                break
    return starts


def _gold_starts(student: Parser, batch: Batch, max_moves: int) -> list[Start]:
    if max_moves >= 1:
        states, golds, _ = student._init_gold_batch(batch.examples, max_length=max_moves)
    else:
        states, golds, _ = student.moves.init_gold_batch(batch.examples)
    return list(zip(states, golds, strict=True))


def _unfinished(starts: list[Start]) -> list[Start]:
    return [(state, gold) for state, gold in starts if not state.is_final()]


def _draw_cut_size(student: Parser) -> int:
    size = student.cfg["update_with_oracle_cut_size"]
    return int(random.uniform(max(size // 2, 1), size * 2)) if size >= 1 else 0


def _check_gold_labels(student: Parser, examples: list[Example]) -> None:
    if isinstance(student, DependencyParser):
        return  # it knows no rare labels, and takes "dep" for each, as in spaCy's own update
    used = {label for example in examples for label in student.moves.get_doc_labels(example.reference)}
    check_corpus(student.name, used, student.labels)


def _moves(pipe: Parser) -> list[str]:
    """Names of the moves in the order of the scores; `pipe.move_names` leaves one out."""
    return [pipe.moves.get_class_name(i) for i in range(pipe.moves.n_moves)]
