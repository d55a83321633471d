"""Distils `distilbert_seq2seq` word by word: at each piece of a reference, what the teacher would write next.

The references may be the corpus's own or the teacher's texts, which `python -m spacy distil write` makes (Kim and Rush 2016,
"Sequence-Level Knowledge Distillation"). Of the thousands of pieces the teacher names the likeliest and puts all others
into one.
"""

import warnings
from collections.abc import Sequence

import numpy
import torch
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import set_dropout_rate, to_numpy
from thinc.util import torch2xp, xp2torch
from torch import Tensor

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.bucketed import bucketed_kl, name_likeliest
from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.lessons import Answer, Array, Lesson
from spacy_distil.pipeline.generation.component import Seq2Seq

N_NAMED = 16
"""The pieces that a teacher names at each place: they hold nearly all of its probability, and 100 bytes of a cache."""
END = -1  # of a reference, among its pieces


def check(student: Seq2Seq, teacher: Seq2Seq) -> None:
    if student.target != teacher.target:
        raise DistillationError(
            f"Component '{student.name}': the student has target = {student.target!r}, the teacher {teacher.target!r}."
        )
    own, other = (pipe.vocabulary.tokenizer.get_vocab(with_added_tokens=True) for pipe in (student, teacher))
    if own != other:
        n_differ = sum(own.get(piece) != other.get(piece) for piece in own.keys() | other.keys())
        raise DistillationError(
            f"Component '{student.name}': the teacher writes other pieces than the student, {n_differ} of them differ. Let "
            "the student start from the teacher's decoder and vocabulary: set `decoder` of its architecture to its folder."
        )


def premises(student: Seq2Seq, examples: Sequence[Example]) -> list[Array]:
    """(pieces,) the targets of a Doc, one after the other, each with an end."""
    return [
        numpy.asarray([piece for target in targets for piece in (*target, END)], dtype="int64")
        for targets in _find_targets(student, examples)
    ]


def _find_targets(student: Seq2Seq, examples: Sequence[Example]) -> list[list[list[int]]]:
    """None of a Doc that has nothing to be read."""
    targets = student.find_targets(examples)
    return [row if example.predicted.text.strip() else [] for row, example in zip(targets, examples, strict=True)]


def ask(teacher: Seq2Seq, docs: Sequence[Doc], premises: Sequence[Array]) -> list[Answer]:
    """pieces: (rows, named), those that the teacher names at each place of each target. logits: (rows, named + 1), the
    logarithms of their probabilities and of all others' together."""
    targets = [_split(to_numpy(premise)) for premise in premises]
    pairs = teacher.make_pairs(docs, targets)
    rows = torch.empty(0, 1)
    if len(pairs):
        rows = xp2torch(teacher.model.predict(pairs))
    pieces, logits = name_likeliest(rows, N_NAMED)
    lengths = [sum(len(target) + 1 for target in row) for row in targets]
    if sum(lengths) != len(rows):
        unread = next(
            doc for doc, row in zip(docs, targets, strict=True) if row and not len(teacher.make_pairs([doc], [row]))
        )
        raise DistillationError(
            f"Component '{teacher.name}': the teacher's tokenizer finds no piece in {unread.text[:40]!r}, where the student's "
            "does. Leave such texts out of the corpus."
        )
    parts = zip(pieces.split(lengths), logits.split(lengths), strict=True)
    return [{"pieces": torch2xp(named), "logits": torch2xp(values)} for named, values in parts]


def _split(premise: Array) -> list[list[int]]:
    targets: list[list[int]] = [[]]
    for piece in premise.tolist():
        if piece == END:
            targets.append([])
        else:
            targets[-1].append(piece)
    return targets[:-1]


def update(student: Seq2Seq, lessons: Sequence[Lesson], batch: Batch) -> float:
    """Both losses are means over the pieces of the batch, as the component's own is: of the divergence from the teacher, over
    several teachers too, whose gradient is that of their mean probability; and of the component's own cross-entropy."""
    pairs = student.make_pairs(batch.docs, _find_targets(student, batch.examples))
    if lessons and not any(student.find_references(example.reference) for example in batch.examples):
        _tell_silence(student)
    if not (lessons or batch.gold_weight) or not len(pairs):
        return 0.0
    set_dropout_rate(student.model, batch.drop)
    scores, backprop = student.model.begin_update(pairs)
    logits = xp2torch(scores)
    gradient = torch.zeros_like(logits)
    loss = 0.0
    for lesson in lessons:
        weight = batch.soft_weight / len(lessons) / len(logits)
        soft, d_soft = bucketed_kl(logits, *_join(lesson, logits.device), batch.temperature)
        gradient.add_(d_soft, alpha=weight)
        loss += weight * soft
    if batch.gold_weight:
        gold, d_gold = student.get_loss(pairs, scores)  # overwrites them
        gradient.add_(xp2torch(d_gold, device=logits.device), alpha=batch.gold_weight)
        loss += batch.gold_weight * gold
    backprop(torch2xp(gradient))
    return loss


def _join(lesson: Lesson, device: torch.device) -> tuple[Tensor, Tensor]:
    pieces = numpy.concatenate([to_numpy(answer["pieces"]) for answer in lesson.answers])
    logits = numpy.concatenate([to_numpy(answer["logits"]) for answer in lesson.answers])
    return torch.from_numpy(pieces).long().to(device), torch.from_numpy(logits).to(device)


def _tell_silence(student: Seq2Seq) -> None:
    warnings.warn(
        f"The component '{student.name}' learns nothing from texts without references: the teacher judges pieces, and writes "
        "none while a student trains. Let it write them before: python -m spacy distil write.",
        stacklevel=3,
    )
