"""The mathematics of hidden states: how far a student's lie from its teacher's.

Each loss is a *sum* over tokens and a mean over the pairs of layers, so that it adds to the sums of the heads. Tensors are
torch's, and gradients come from its autograd.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 512
"""The relations between tokens are those within so many neighbours: their number grows with the square."""


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cos of the angle between the states of a token (Sanh et al. 2019, section 3).

    student, teacher: (pairs, tokens, width)
    """
    return (1 - F.cosine_similarity(student, teacher, dim=-1)).mean(dim=0).sum()


def mean_square(student: Tensor, teacher: Tensor) -> Tensor:
    """The squared difference of a token's states, the mean over the width (Romero et al. 2015; Jiao et al. 2020).

    student, teacher: (pairs, tokens, width)
    """
    return (student - teacher).square().mean(dim=(0, 2)).sum()


def relations(student: Tensor, teacher: Tensor, lengths: Sequence[int], n_heads: int) -> Tensor:
    """How each token relates to the others of its Doc: the divergence KL(teacher ‖ student) of softmax(H Hᵀ / √d), the mean
    over heads (Wang et al. 2021, "MiniLMv2", section 3, on hidden states in the place of queries, keys and values). The
    widths may differ.

    student: (pairs, tokens, width of the student), both widths divisible by n_heads.
    teacher: (pairs, tokens, width of the teacher)
    lengths: the tokens of each Doc.
    n_heads: relation heads.
    """
    loss = student.new_zeros(())
    for part_s, part_t in zip(_chunks(student, lengths), _chunks(teacher, lengths), strict=True):
        log_q, log_p = _log_relations(part_s, n_heads), _log_relations(part_t, n_heads)
        divergence = (log_p.exp() * (log_p - log_q)).sum(dim=-1)
        loss = loss + divergence.mean(dim=(0, 1)).sum()
    return loss


def _chunks(states: Tensor, lengths: Sequence[int]) -> list[Tensor]:
    docs = torch.split(states, list(lengths), dim=1)
    return [chunk for doc in docs for chunk in torch.split(doc, CHUNK, dim=1)]


def _log_relations(states: Tensor, n_heads: int) -> Tensor:
    """(pairs, tokens, width) to (pairs, heads, tokens, tokens)"""
    n_pairs, n_tokens, width = states.shape
    heads = states.view(n_pairs, n_tokens, n_heads, width // n_heads).transpose(1, 2)
    return F.log_softmax(heads @ heads.transpose(2, 3) / (width // n_heads) ** 0.5, dim=-1)
