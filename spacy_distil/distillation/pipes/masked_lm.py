"""Distils `distilbert_mlm`: scores of the whole vocabulary for each masked piece.

With `temperature = 2`, `soft_weight = 5` and `gold_weight = 2` these are two of the three losses of DistilBERT's pre-training
(Sanh et al. 2019, section 3). Every update masks anew, so that no answer is asked for twice: leave out
`[distillation.cache]`.
"""

from collections.abc import Sequence

import numpy
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import set_dropout_rate

from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.errors import LabelError
from spacy_distil.distillation.heads import Head, mean_logits
from spacy_distil.distillation.lessons import Answer, Array, Lesson
from spacy_distil.distillation.losses import softmax_kl
from spacy_distil.pipeline.masked_lm.component import MaskedLanguageModel
from spacy_distil.pipeline.masked_lm.masking import show_masks
from spacy_distil.pipeline.masked_lm.model import cross_entropy


def check(student: MaskedLanguageModel, teacher: MaskedLanguageModel) -> None:
    ours, theirs = (pipe.tokenizer.tokenizer.get_vocab(with_added_tokens=True) for pipe in (student, teacher))
    if ours != theirs:
        only = sorted(set(theirs) - set(ours)) or sorted(set(ours) - set(theirs))
        raise LabelError(
            f"Component '{student.name}': student ({len(ours)} pieces) and teacher ({len(theirs)}) have other vocabularies"
            + (f", which differ in pieces such as {only[0]!r}" if only else ", the same pieces under other numbers")
            + ". Start the student from the teacher's encoder: scores of pieces can be compared by number only."
        )


def premises(student: MaskedLanguageModel, examples: Sequence[Example]) -> list[Array]:
    """(masks, 2): position and piece shown of each mask."""
    return list(student.draw(student.read(example.predicted for example in examples)))


def ask(teacher: MaskedLanguageModel, docs: Sequence[Doc], premises: Sequence[Array]) -> list[Answer]:
    """masks: the premise again. logits: (masks, pieces of the vocabulary)."""
    ids = teacher.read(docs)
    ops, vocab_size = teacher.model.ops, teacher.shim.encoder.config.vocab_size
    if not any(len(masks) for masks in premises):
        return [{"masks": masks, "logits": ops.alloc2f(0, vocab_size)} for masks in premises]
    shown = [show_masks(row, masks) for row, masks in zip(ids, premises, strict=True)]
    logits = teacher.predict_masks(shown, [masks[:, 0] for masks in premises])
    lengths = ops.asarray1i([len(masks) for masks in premises])
    return [
        {"masks": masks, "logits": rows} for masks, rows in zip(premises, ops.unflatten(logits, lengths), strict=True)
    ]


def update(student: MaskedLanguageModel, lessons: Sequence[Lesson], batch: Batch) -> float:
    """Every text has gold: what stood behind its masks."""
    ids = student.read(batch.docs)
    masks = [numpy.asarray(a["masks"]) for a in lessons[0].answers] if lessons else student.draw(ids)
    if not (lessons or batch.gold_weight) or not any(len(of_text) for of_text in masks):
        return 0.0
    ops = student.model.ops
    set_dropout_rate(student.model, batch.drop)
    scores, targets, backprop = student.begin_update(ids, masks)
    gold, gradient = cross_entropy(scores, targets)
    gradient *= batch.gold_weight
    loss = batch.gold_weight * gold
    if lessons:
        each = [ops.xp.concatenate([answer["logits"] for answer in lesson.answers]) for lesson in lessons]
        soft, d_soft = softmax_kl(scores, mean_logits(Head.SOFTMAX, each), batch.temperature)
        gradient += batch.soft_weight * d_soft
        loss += batch.soft_weight * soft
    backprop(gradient)
    return loss
