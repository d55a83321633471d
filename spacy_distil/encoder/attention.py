"""Self-attention over packed sequences: each piece attends to the pieces of its own sequence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spacy_distil.encoder.dropout import dropout
from spacy_distil.encoder.packed import Packed


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
    runs = packed.runs()
    contexts = []
    *blocks, filler = qkv.split([*(run.n_pieces for run in runs), packed.n_filler])
    for run, rows in zip(runs, blocks, strict=True):
        q, k, v = rows.view(run.n_sequences, run.length, 3, n_heads, -1).permute(2, 0, 3, 1, 4)
        # torch's kernel is the faster one forward, and several times the slower one backward or with dropout.
        if rows.requires_grad or dropout_rate:
            context = attend_by_products(q, k, v, dropout_rate=dropout_rate)
        else:
            context = F.scaled_dot_product_attention(q, k, v)
        contexts.append(context.transpose(1, 2).reshape(run.n_pieces, -1))
    contexts.append(filler.new_zeros(len(filler), contexts[0].shape[1]))
    return torch.cat(contexts)


def attend_by_products(q: Tensor, k: Tensor, v: Tensor, *, dropout_rate: float) -> Tensor:
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
