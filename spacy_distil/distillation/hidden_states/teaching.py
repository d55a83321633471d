"""The loss between the hidden states of a student and of its teacher, with all that it needs in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import torch
from spacy.tokens import Doc
from thinc.util import xp2torch
from torch import Tensor, nn

from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.hidden_states.losses import cosine, mean_square, relations
from spacy_distil.distillation.hidden_states.states import hidden_states
from spacy_distil.distillation.lessons import Answer, Array
from spacy_distil.distillation.settings import Hidden
from spacy_distil.distillation.teacher import Hearing

PROJECTION_RATE = 1e-3
"""Learning rate of the projections."""


class HiddenTeaching:
    """Which layer learns from which, and how far off it is.

    Where the widths differ, `cosine` and `mean_square` compare a linear map of the student's states, one for each pair of
    layers. The maps learn beside the student, by an Adam of their own, and are no part of it.

    settings: the config's block.
    student, teacher: names of the encoders.
    pairs: (layer of the student, layer of the teacher).
    widths: of the student, of the teacher.
    RAISES: DistillationError if a width can't be cut into the relation heads.
    """

    def __init__(
        self, settings: Hidden, *, student: str, teacher: str, pairs: Sequence[tuple[int, int]], widths: tuple[int, int]
    ) -> None:
        self.settings, self.student, self.teacher = settings, student, teacher
        self.student_layers = [layer for layer, _ in pairs]
        self.teacher_layers = [layer for _, layer in pairs]
        self._maps: nn.ParameterList | None = None
        if settings.loss == "relations":
            for whose, width in zip(("student", "teacher"), widths, strict=True):
                if width % settings.relation_heads:
                    raise DistillationError(
                        f"[distillation.hidden] relation_heads = {settings.relation_heads}: the {whose} is {width} wide, which "
                        "can't be divided by it."
                    )
        elif widths[0] != widths[1]:
            maps = [nn.init.orthogonal_(torch.empty(widths)) for _ in pairs]
            self._maps = nn.ParameterList(maps)
            self._adam = torch.optim.Adam(self._maps.parameters(), lr=PROJECTION_RATE)

    def ask(self, hearing: Hearing) -> list[Answer]:
        """states: (pairs, tokens, width of the teacher)"""
        return hearing.ask(self.teacher, self._read, question=f"states of layers {self.teacher_layers}")

    def _read(self, encoder: Any, docs: Sequence[Doc], premises: Sequence[Array]) -> list[Answer]:
        return [{"states": states} for states in hidden_states(encoder, docs, self.teacher_layers)]

    def __call__(self, student: Tensor, hearing: Hearing) -> tuple[float, Tensor]:
        """Compare, and take one step of the maps, where there are some.

        student: (pairs, tokens, width of the student), of the hearing's documents.
        RETURNS: the loss, and its gradient with respect to the student's states, of their shape.
        """
        states = [xp2torch(answer["states"], device=student.device) for answer in self.ask(hearing)]
        return self.compare(student, torch.cat(states, dim=1), [rows.shape[1] for rows in states])

    def compare(self, student: Tensor, teacher: Tensor, lengths: Sequence[int]) -> tuple[float, Tensor]:
        """As `__call__`, with the teacher's states, (pairs, tokens, width of the teacher), and the tokens of each Doc."""
        student = student.detach().requires_grad_()
        loss = self._loss(student, teacher, lengths)
        if self._maps is not None:
            self._adam.zero_grad()
        loss.backward()
        if self._maps is not None:
            self._adam.step()
        assert student.grad is not None
        return float(loss.detach()), student.grad

    def _loss(self, student: Tensor, teacher: Tensor, lengths: Sequence[int]) -> Tensor:
        # A token without a piece of its own has zeros, which have no direction and say nothing.
        known = (student.detach() != 0).any(dim=2).all(dim=0) & (teacher != 0).any(dim=2).all(dim=0)
        if self.settings.loss == "relations":
            kept = [int(part.sum()) for part in torch.split(known, list(lengths))]
            return relations(student[:, known], teacher[:, known], kept, self.settings.relation_heads)
        student, teacher = student[:, known], teacher[:, known]
        if self._maps is not None:
            self._maps.to(student.device)
            student = torch.stack([rows @ matrix for rows, matrix in zip(student, self._maps, strict=True)])
        return (cosine if self.settings.loss == "cosine" else mean_square)(student, teacher)

    def state_dict(self) -> dict[str, numpy.ndarray]:
        """The maps and the state of their Adam, to go on with later; nothing where there are none."""
        if self._maps is None:
            return {}
        state = {f"map.{i}": matrix.detach() for i, matrix in enumerate(self._maps)}
        for i, moments in self._adam.state_dict()["state"].items():
            state |= {f"adam.{i}.{name}": value for name, value in moments.items()}
        return {name: value.cpu().numpy() for name, value in state.items()}

    def load_state_dict(self, state: Mapping[str, numpy.ndarray]) -> None:
        if self._maps is None:
            return
        adam = self._adam.state_dict()
        with torch.no_grad():
            for i, matrix in enumerate(self._maps):
                matrix.copy_(torch.from_numpy(state[f"map.{i}"].copy()))
        for name, value in state.items():
            kind, number, *moment = name.split(".")
            if kind == "adam":
                adam["state"].setdefault(int(number), {})[moment[0]] = torch.from_numpy(numpy.array(value))
        self._adam.load_state_dict(adam)
