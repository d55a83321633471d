"""Self-attention over packed sequences: each piece attends to the pieces of its own sequence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spacy_distil.encoder.dropout import dropout
from spacy_distil.encoder.packed import Packed, Run

VECTOR = 16  # scores that torch's kernel works on at once; it takes those left over one by one
LONG = 160  # pieces of a sequence from which products in bfloat16 are the faster way
STEP = 32  # pieces to which such a sequence is rounded up


def attend(qkv: Tensor, packed: Packed, n_heads: int, dropout_rate: float = 0.0) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, section 3.2.1).

    qkv: (pieces, 3 * n_heads * head_width), queries, keys and values.
    dropout_rate: probability for the attention weights.
    Returns (pieces, n_heads * head_width).

    A processor starts a call quickly and suffers from padding: one call for each run of equal lengths. An accelerator
    is the other way round: one call for all, padded and masked.
    """
    if qkv.device.type == "cpu":
        return attend_in_runs(qkv, packed, n_heads, dropout_rate)
    return attend_padded(qkv, packed, n_heads, dropout_rate)


def attend_in_runs(qkv: Tensor, packed: Packed, n_heads: int, dropout_rate: float = 0.0) -> Tensor:
    """torch's kernel is the faster one forward, and several times the slower one backward or with dropout. It takes its
    exponentials in float32, so that in bfloat16 long sequences are faster by products, whose weights are rounded as all
    else is.
    """
    learning = qkv.requires_grad or dropout_rate > 0
    contexts, start = [], 0
    for run in packed.runs():
        if learning:
            context = attend_by_products(*_queries_keys_values(qkv, start, run, n_heads), dropout_rate=dropout_rate)
        elif qkv.dtype == torch.bfloat16 and run.length >= LONG:
            context = attend_one_by_one(qkv, start, run, n_heads)
        else:
            context = attend_by_kernel(qkv, start, run, n_heads)
        contexts.append(context.transpose(1, 2).reshape(run.n_pieces, -1))
        start += run.n_pieces
    contexts.append(qkv.new_zeros(packed.n_filler, contexts[0].shape[1]))
    return torch.cat(contexts)


def attend_by_kernel(qkv: Tensor, start: int, run: Run, n_heads: int) -> Tensor:
    """torch's kernel, which is bound by the exponentials of the scores. Keys of whole vectors save up to half of its time."""
    q, k, v = _queries_keys_values(qkv, start, run, n_heads)
    length = _round_up(run.length, VECTOR)
    if not 0 < length - run.length <= VECTOR - 3 or not _has_room(qkv, start, run, length):
        return F.scaled_dot_product_attention(q, k, v)
    mask = qkv.new_zeros(length)
    mask[run.length :] = float("-inf")
    mask = mask.expand(run.length, length)
    return F.scaled_dot_product_attention(q, _longer(k, length), _longer(v, length), attn_mask=mask)


def attend_one_by_one(qkv: Tensor, start: int, run: Run, n_heads: int) -> Tensor:
    """By products of one sequence at a time, whose scores stay in the processor's cache.

    oneDNN makes code for each shape that it meets and keeps 0.6 MB of it: there are only as many shapes as rounded lengths.
    """
    length = _round_up(run.length, STEP)
    if not _has_room(qkv, start, run, length):
        return attend_by_kernel(qkv, start, run, n_heads)
    q, k, v = (_longer(t, length) for t in _queries_keys_values(qkv, start, run, n_heads))
    context = qkv.new_empty(run.n_sequences, run.length, *q.shape[1::2]).transpose(1, 2)
    for i in range(run.n_sequences):
        context[i] = attend_by_products(q[i], k[i], v[i], n_keys=run.length)[:, : run.length]
    return context


def _queries_keys_values(qkv: Tensor, start: int, run: Run, n_heads: int) -> Tensor:
    """(3, sequences, heads, length, head_width)"""
    rows = qkv[start : start + run.n_pieces]
    return rows.view(run.n_sequences, run.length, 3, n_heads, -1).permute(2, 0, 3, 1, 4)


def _round_up(length: int, step: int) -> int:
    return -(-length // step) * step


def _has_room(qkv: Tensor, start: int, run: Run, length: int) -> bool:
    """Whether there are rows enough for the last sequence of a run to be looked at as a longer one."""
    return start + run.n_pieces - run.length + length <= len(qkv)


def _longer(t: Tensor, length: int) -> Tensor:
    """A view of longer sequences: what is beyond their ends is their neighbours', to be masked out."""
    return t.as_strided((*t.shape[:2], length, t.shape[3]), t.stride())


def attend_by_products(
    q: Tensor, k: Tensor, v: Tensor, *, n_keys: int | None = None, dropout_rate: float = 0.0
) -> Tensor:
    """(..., length, head_width) each, and so is the result. Keys beyond `n_keys` are masked out."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if n_keys is not None:
        scores[..., n_keys:] = float("-inf")
    return dropout(scores.softmax(dim=-1), dropout_rate) @ v


def attend_padded(qkv: Tensor, packed: Packed, n_heads: int, dropout_rate: float = 0.0) -> Tensor:
    lengths = torch.tensor(packed.lengths, device=qkv.device)
    longest = max(packed.lengths)
    keep = torch.arange(longest, device=qkv.device) < lengths[:, None]
    padded = qkv.new_zeros(len(packed.lengths), longest, qkv.shape[1])
    padded[keep] = qkv[: len(qkv) - packed.n_filler]
    q, k, v = padded.unflatten(2, (3, n_heads, -1)).permute(2, 0, 3, 1, 4)
    context = F.scaled_dot_product_attention(q, k, v, attn_mask=keep[:, None, None, :], dropout_p=dropout_rate)
    return F.pad(context.transpose(1, 2).flatten(2)[keep], (0, 0, 0, packed.n_filler))
