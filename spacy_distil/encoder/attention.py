"""Self-attention over packed sequences: each piece attends to the pieces of its own sequence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spacy_distil.encoder.dropout import dropout
from spacy_distil.encoder.packed import Packed, Run

VECTOR = 16  # scores that torch's kernel works on at once; it takes those left over one by one
FEW_SCORES = 8192  # of a head in a run: below, what it costs to start two products is more than what they save
SCORES_AT_ONCE = 1 << 22  # of all heads: in bfloat16 8 MB, which stay in the cache and are not asked anew of the system


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
    """torch's kernel is the faster one forward in float32, and several times the slower one backward or with dropout. In
    bfloat16 it still takes its exponentials in float32; products are up to twice as fast, except for few and short
    sequences, and round the weights to bfloat16 as all else is.
    """
    learning = qkv.requires_grad or dropout_rate > 0
    contexts, start = [], 0
    for run in packed.runs():
        if learning:
            q, k, v = _queries_keys_values(qkv, start, run, n_heads)
            context = attend_by_products(q, k, v, dropout_rate=dropout_rate)
        elif qkv.dtype == torch.bfloat16 and run.n_sequences * run.length**2 >= FEW_SCORES:
            context = attend_by_part(*_queries_keys_values(qkv, start, run, n_heads))
        else:
            context = attend_by_kernel(qkv, start, run, n_heads)
        contexts.append(context.transpose(1, 2).reshape(run.n_pieces, -1))
        start += run.n_pieces
    contexts.append(qkv.new_zeros(packed.n_filler, contexts[0].shape[1]))
    return torch.cat(contexts)


def attend_by_kernel(qkv: Tensor, start: int, run: Run, n_heads: int) -> Tensor:
    """torch's kernel, which is bound by the exponentials of the scores.

    Keys of whole vectors save up to half of its time: those beyond a sequence are its neighbour's, seen through a longer
    view and masked out.
    """
    q, k, v = _queries_keys_values(qkv, start, run, n_heads)
    left_over = run.length % VECTOR
    length = run.length - left_over + VECTOR
    if left_over < 3 or start + run.n_pieces - left_over + VECTOR > len(qkv):
        return F.scaled_dot_product_attention(q, k, v)
    k, v = (t.as_strided((*t.shape[:2], length, t.shape[3]), t.stride()) for t in (k, v))
    mask = qkv.new_zeros(length)
    mask[run.length :] = float("-inf")
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask.expand(run.length, length))


def _queries_keys_values(qkv: Tensor, start: int, run: Run, n_heads: int) -> Tensor:
    """(3, sequences, heads, length, head_width)"""
    rows = qkv[start : start + run.n_pieces]
    return rows.view(run.n_sequences, run.length, 3, n_heads, -1).permute(2, 0, 3, 1, 4)


def attend_by_part(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """By products, of as many sequences at once as have few enough scores."""
    n_heads, length = q.shape[1:3]
    n_sequences = max(1, SCORES_AT_ONCE // (n_heads * length**2))
    parts = zip(q.split(n_sequences), k.split(n_sequences), v.split(n_sequences), strict=True)
    return torch.cat([attend_by_products(*part) for part in parts])


def attend_by_products(q: Tensor, k: Tensor, v: Tensor, *, dropout_rate: float = 0.0) -> Tensor:
    """(sequences, heads, length, head_width) each, and so is the result."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
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
