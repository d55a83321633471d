"""Distils `distilbert_qa`: for each question, where its answer starts and where it ends.

The teacher scores the student's own sequences of pieces, so both need the same vocabulary. What it says of a Doc covers all of
its questions, be they answered in the corpus or not, so that answers which are kept serve whichever of them are drawn.
"""

from collections.abc import Sequence

import numpy
import torch
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import get_array_module, set_dropout_rate, to_numpy
from thinc.util import torch2xp, xp2torch
from torch import Tensor

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.heads import Head, mean_logits
from spacy_distil.distillation.lessons import Answer, Array, Lesson
from spacy_distil.distillation.losses import softmax_kl
from spacy_distil.encoder.sequences import Sequences
from spacy_distil.encoder.shim import DistilBertShim
from spacy_distil.pipeline.question_answering.component import QuestionAnswering
from spacy_distil.pipeline.question_answering.gold import cross_entropy, draw
from spacy_distil.pipeline.question_answering.model import begin_update_with_states, predict_with_states
from spacy_distil.pipeline.question_answering.windows import Windows


def check(student: QuestionAnswering, teacher: QuestionAnswering) -> None:
    own, other = (pipe.tokenizer.tokenizer.get_vocab(with_added_tokens=True) for pipe in (student, teacher))
    if own != other:
        differ = sorted(piece for piece in own.keys() | other.keys() if own.get(piece) != other.get(piece))
        raise DistillationError(
            f"Component '{student.name}': the teacher reads other word pieces than the student; {len(differ)} differ, such as "
            f"{', '.join(map(repr, differ[:3]))}. The teacher scores each piece of the student's: start both from checkpoints "
            "with the same vocabulary."
        )
    longest, limit = student.window_length, teacher.tokenizer.max_length
    if longest > limit:
        raise DistillationError(
            f"Component '{student.name}': the student's windows have up to {longest} pieces, and the teacher takes {limit}. "
            f"Set max_length = {limit} for the student."
        )


def premises(student: QuestionAnswering, examples: Sequence[Example]) -> list[Array]:
    """(pieces, 3): id, token type, and number of the sequence, of all sequences of a Doc."""
    questions = student.find_questions(examples, answered=False)
    windows = student.make_example_windows(examples, questions)
    lengths = numpy.asarray(windows.sequences.lengths, dtype="int64")
    docs = windows.docs[windows.questions]
    first = numpy.searchsorted(docs, numpy.arange(len(examples)))  # window of each Doc
    number = numpy.repeat(numpy.arange(len(lengths)) - first[docs], lengths)
    types = windows.sequences.types
    assert types is not None
    columns = numpy.stack([windows.sequences.ids.numpy(), types.numpy(), number], axis=1)
    return numpy.split(columns, numpy.searchsorted(numpy.repeat(docs, lengths), numpy.arange(1, len(examples))))


def ask(teacher: QuestionAnswering, docs: Sequence[Doc], premises: Sequence[Array]) -> list[Answer]:
    """logits: (pieces, 2), start and end."""
    logits = teacher.model.predict(_make_sequences(premises))
    return [{"logits": rows} for rows in _split(logits, premises)]


def ask_states(
    teacher: QuestionAnswering, docs: Sequence[Doc], premises: Sequence[Array], layers: Sequence[int]
) -> list[Answer]:
    """logits: (pieces, 2), start and end. states: (layers, pieces, width), the hidden states of these layers."""
    ops, width = teacher.model.ops, teacher.shim.encoder.config.width
    logits, states = [ops.alloc2f(0, 2)], [ops.alloc3f(len(layers), 0, width)]
    for hidden, scores in predict_with_states(teacher.model, _make_sequences(premises), layers):
        logits.append(scores)
        states.append(ops.asarray3f(torch2xp(hidden)))
    parts = (
        _split(ops.xp.concatenate(logits), premises),
        _split(ops.xp.concatenate(states, axis=1), premises, axis=1),
    )
    return [{"logits": scores, "states": hidden} for scores, hidden in zip(*parts, strict=True)]


def find_encoder(pipe: QuestionAnswering) -> DistilBertShim:
    return pipe.shim


def _make_sequences(premises: Sequence[Array]) -> Sequences:
    rows: Array = numpy.concatenate([to_numpy(columns) for columns in premises])
    ids, types = (torch.from_numpy(numpy.ascontiguousarray(rows[:, i])) for i in range(2))
    lengths = [n for columns in premises for n in numpy.bincount(to_numpy(columns)[:, 2]).tolist()]
    return Sequences(ids, tuple(lengths), types)


def _split(rows: Array, premises: Sequence[Array], *, axis: int = 0) -> list[Array]:
    """The rows of each Doc."""
    ends = numpy.cumsum([len(columns) for columns in premises])
    return get_array_module(rows).split(rows, ends[:-1].tolist(), axis=axis)


def update(student: QuestionAnswering, lessons: Sequence[Lesson], batch: Batch) -> float:
    """Two losses are sums over windows: of the divergence of start and end from the teacher's over the window's pieces and
    `[CLS]`, and of the component's own cross entropy, where answers are known. The third is a sum over pieces, of the distance
    from the first teacher's hidden states."""
    every = student.find_questions(batch.examples, answered=False)
    numbers = [draw(range(len(row)), student.questions_per_doc) for row in every]
    questions = [[row[i] for i in chosen] for row, chosen in zip(every, numbers, strict=True)]
    has_gold = any(question.answers is not None for row in questions for question in row)
    gold_weight = batch.gold_weight if has_gold else 0.0
    windows = student.make_example_windows(batch.examples, questions)
    if not (lessons or gold_weight) or not len(windows.questions):
        return 0.0
    set_dropout_rate(student.model, batch.drop)
    hidden = batch.hidden if lessons and batch.states_weight else None
    layers = hidden.student_layers if hidden is not None else []
    states, scores, backprop = begin_update_with_states(student.model, windows.sequences, layers)
    logits = to_numpy(scores)
    gradient = numpy.zeros_like(logits)
    d_states: Tensor | None = None
    loss = 0.0
    if lessons:
        rows = _find_rows(student.make_example_windows(batch.examples, every), numbers)
        soft, d_soft = _soft_loss(windows, logits, _take_logits(lessons, rows), batch.temperature)
        gradient += batch.soft_weight * d_soft
        loss += batch.soft_weight * soft
        if hidden is not None:
            taught = xp2torch(_take_states(lessons[0], rows), device=states.device)
            distance, d_distance = hidden.compare(states, taught, windows.sequences.lengths)
            d_states = batch.states_weight * d_distance
            loss += batch.states_weight * distance
    if gold_weight:
        gold, d_gold = cross_entropy(windows, [question for row in questions for question in row], logits)
        gradient += gold_weight * d_gold
        loss += gold_weight * gold
    backprop(student.model.ops.asarray2f(gradient), d_states)
    return loss


def _find_rows(whole: Windows, numbers: Sequence[Sequence[int]]) -> Array:
    """(pieces,) whether a piece is of a question that was drawn.

    whole: the windows of all questions.
    numbers: of those that were drawn, for each Doc.
    """
    first = numpy.searchsorted(whole.docs, numpy.arange(len(numbers)))
    drawn = [start + i for start, chosen in zip(first.tolist(), numbers, strict=True) for i in chosen]
    return numpy.repeat(numpy.isin(whole.questions, drawn), whole.sequences.lengths)


def _take_logits(lessons: Sequence[Lesson], rows: Array) -> list[Array]:
    """What each teacher says of these pieces."""
    return [numpy.concatenate([to_numpy(answer["logits"]) for answer in lesson.answers])[rows] for lesson in lessons]


def _take_states(lesson: Lesson, rows: Array) -> Array:
    """(layers, pieces, width)"""
    states: Array = numpy.concatenate([to_numpy(answer["states"]) for answer in lesson.answers], axis=1)
    return states[:, rows]


def _soft_loss(windows: Windows, student: Array, teachers: Sequence[Array], temperature: float) -> tuple[float, Array]:
    """student: logits, (pieces, 2). RETURNS: the divergence summed over windows, and its gradient, (pieces, 2)."""
    own, *others = (windows.gather(logits) for logits in (student, *teachers))
    shape = own.shape
    rows = (-1, shape[-1])
    taught = mean_logits(Head.SOFTMAX, [logits.reshape(rows) for logits in others])
    loss, gradient = softmax_kl(own.reshape(rows), taught, temperature)
    return loss, windows.scatter(gradient.reshape(shape))
