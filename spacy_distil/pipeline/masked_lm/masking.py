"""Masked pieces: which are chosen, what is shown in their place, and the windows in which they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spacy_distil.encoder.pieces import Pieces, cut_windows
from spacy_distil.encoder.sequences import Sequences
from spacy_distil.encoder.tokenizer import PieceTokenizer
from spacy_distil.errors import ComponentError

Ints1d = NDArray[np.int64]
Ints2d = NDArray[np.int64]
SHOWN_MASKED, SHOWN_RANDOM = 0.8, 0.1  # the rest is shown as it is


@dataclass(frozen=True)
class Query:
    """Pieces that are asked for, and all that is seen of them.

    sequences: the windows in which one stands.
    rows: (masks,) the row of each among the sequences' pieces.
    """

    sequences: Sequences
    rows: Tensor


def mask_id(tokenizer: PieceTokenizer) -> int:
    """Raises ComponentError for a vocabulary without a mask."""
    token = tokenizer.special_tokens["mask_token"]
    found = tokenizer.tokenizer.token_to_id(token)
    if found is None:
        raise ComponentError(f"The tokenizer's vocabulary lacks its mask, {token!r}: this checkpoint can't fill masks.")
    return found


def choose_masks(
    ids: Ints1d, tokenizer: PieceTokenizer, vocab_size: int, fraction: float, random: torch.Generator | None = None
) -> Ints2d:
    """Choose pieces of a text, at least one, and what is shown in their place: the mask for 80 % of them, any piece for 10 %,
    and the piece itself for 10 % (Devlin et al. 2019, section 3.1).

    ids: (pieces,) of the text. Special pieces are never chosen.
    fraction: of the pieces that are chosen.
    random: None for torch's own generator.
    RETURNS: (masks, 2), position and piece shown, in ascending order.
    """
    special = [tokenizer.tokenizer.token_to_id(token) for token in tokenizer.special_tokens.values()]
    eligible = np.flatnonzero(~np.isin(ids, [i for i in special if i is not None]))
    if not len(eligible):
        return np.zeros((0, 2), dtype=np.int64)
    n_chosen = max(1, round(fraction * len(eligible)))
    chosen = np.sort(eligible[torch.randperm(len(eligible), generator=random)[:n_chosen].numpy()])
    fate = torch.rand(n_chosen, generator=random).numpy()
    any_piece = torch.randint(vocab_size, (n_chosen,), generator=random).numpy()
    shown = np.where(fate < SHOWN_MASKED + SHOWN_RANDOM, any_piece, ids[chosen])
    shown = np.where(fate < SHOWN_MASKED, mask_id(tokenizer), shown)
    return np.stack([chosen, shown], axis=1)


def show_masks(ids: Ints1d, masks: Ints2d) -> Ints1d:
    """The text's pieces as they are shown: (pieces,)."""
    shown = ids.copy()
    shown[masks[:, 0]] = masks[:, 1]
    return shown


def make_query(
    ids: Sequence[Ints1d],
    positions: Sequence[Ints1d],
    tokenizer: PieceTokenizer,
    *,
    window: int,
    overlap: int,
) -> Query:
    """Texts longer than a window are cut into several, and each piece is asked for in the one in which it stands most
    centrally.

    ids: each text's pieces, as they are shown.
    positions: of those that are asked for, ascending.
    """
    flat = np.concatenate(ids)
    ends = np.cumsum([len(row) for row in ids])
    every = np.arange(len(flat))
    windows = cut_windows(Pieces(flat, ends, every, every + 1), window=window, overlap=overlap)
    starts = ends - [len(row) for row in ids]
    asked = np.concatenate([row + start for row, start in zip(positions, starts, strict=True)])
    home = np.searchsorted(windows.homes, asked, side="right") - 1
    used, index = np.unique(home, return_inverse=True)
    pieces = [flat[windows.starts[i] : windows.ends[i]].tolist() for i in used]
    sequences = Sequences.from_lists([[tokenizer.cls_id, *row, tokenizer.sep_id] for row in pieces])
    lengths = np.asarray(sequences.lengths, dtype=np.int64)
    rows = (np.cumsum(lengths) - lengths)[index] + 1 + asked - windows.starts[home]
    return Query(sequences, torch.from_numpy(rows))
