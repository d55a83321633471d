"""What to write: the likeliest piece at each step, or the likeliest text that a beam finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from spacy_distil.errors import ComponentError

SHRINK = 0.75  # the share of sources still being written below which the others are dropped: dropping costs a copy
MARGIN = 10  # pieces that a text may have beyond `max_ratio`
ROWS = 64  # of logits, whose probabilities are computed while they are in the cache of a processor
CHUNK = 64  # logits of which the largest stands for all, where the best are looked for

Stopping = bool | Literal["never"]


class Writer(Protocol):
    """What a search needs of a decoder: rows, `n_beams` of them for each source, side by side; see `inference.Decoding`."""

    def step(self, ids: Tensor) -> Tensor: ...
    def reorder(self, rows: Tensor) -> None: ...
    def keep(self, sources: Tensor) -> None: ...


@dataclass(frozen=True)
class Rules:
    """What may be written.

    start, end: the pieces that start and end each text.
    silent: pieces that are never written.
    no_repeat: no sequence of so many pieces is written twice (Paulus et al. 2018, section 2.5); 0 for no such rule.
    """

    start: int
    end: int
    silent: tuple[int, ...] = ()
    no_repeat: int = 0

    def apply(self, logits: Tensor, written: Tensor) -> None:
        """Set the logits, (rows, vocabulary), of what may not follow the pieces written, (rows, pieces), to minus infinity."""
        if self.silent:
            logits[:, list(self.silent)] = float("-inf")
        if self.no_repeat and written.shape[1] >= self.no_repeat:
            windows = written.unfold(1, self.no_repeat, 1)
            last = written[:, written.shape[1] - self.no_repeat + 1 :]
            rows, places = (windows[..., :-1] == last[:, None]).all(dim=-1).nonzero(as_tuple=True)
            logits[rows, windows[rows, places, -1]] = float("-inf")


@dataclass(frozen=True)
class Search:
    """How a text is looked for.

    beams: texts that are kept at each step; 1 takes the likeliest piece at each step.
    length_penalty: a text's score is its log-probability divided by its length, in pieces with the end, to this power: 0
        prefers short texts, larger values longer ones.
    no_repeat: see `Rules`.
    max_length: the most pieces of a text, the end included; the decoder's own limit holds as well.
    max_ratio: the most pieces of a text for each piece of its source, and `MARGIN` beyond; None for no such limit.
    early_stopping: when a beam search ends, once as many texts are finished as there are beams: at once (True); when none on
        the beam is better than the worst of them, were it to end here (False); when none could become better than the best
        of them, however long it grew ("never"). As in transformers' `generate`.
    """

    beams: int = 4
    length_penalty: float = 1.0
    no_repeat: int = 0
    max_length: int = 256
    max_ratio: float | None = 2.0
    early_stopping: Stopping = False

    def __post_init__(self) -> None:
        for name, value, least in (
            ("beams", self.beams, 1),
            ("no_repeat_ngrams", self.no_repeat, 0),
            ("max_length", self.max_length, 1),
            ("max_ratio", 1.0 if self.max_ratio is None else self.max_ratio, 0.0),
        ):
            if value < least:
                raise ComponentError(f"{name} = {value} has to be at least {least}.")
        if self.early_stopping not in (True, False, "never"):
            raise ComponentError(
                f'early_stopping = {self.early_stopping!r} is not known. Known are true, false and "never".'
            )

    def limits(self, source_lengths: Sequence[int], longest: int) -> list[int]:
        """The most pieces of each text, the end included.

        longest: the decoder's own limit.
        """
        most = min(self.max_length, longest)
        if self.max_ratio is None:
            return [most] * len(source_lengths)
        return [min(most, int(self.max_ratio * n) + MARGIN) for n in source_lengths]


def find_texts(writer: Writer, limits: Sequence[int], rules: Rules, search: Search) -> list[list[int]]:
    """What a search finds.

    writer: with `search.beams` rows for each source.
    limits: the most pieces of each source's text, the end included.
    RETURNS: for each source its pieces, without start and end.
    """
    if search.beams == 1:
        return find_greedily(writer, limits, rules)
    return find_by_beams(writer, limits, rules, search)


@torch.inference_mode()
def find_greedily(writer: Writer, limits: Sequence[int], rules: Rules) -> list[list[int]]:
    """The likeliest piece at each step, until it is the end."""
    texts: list[list[int]] = [[] for _ in limits]
    sources = torch.arange(len(limits))
    most = torch.tensor(limits)
    written = torch.empty(len(limits), 0, dtype=torch.long)
    ids = torch.full((len(limits),), rules.start)
    running = torch.ones(len(limits), dtype=torch.bool)
    for length in range(1, max(limits) + 1):
        logits = writer.step(ids)
        rules.apply(logits, written)
        ids = logits.argmax(dim=1).to(written.device)
        written = torch.cat([written, ids[:, None]], dim=1)
        stopping = running & ((ids == rules.end) | (most == length))
        for row in stopping.nonzero()[:, 0].tolist():
            text = written[row].tolist()
            texts[sources[row]] = text[:-1] if text[-1] == rules.end else text
        running = running & ~stopping
        n_running = int(running.sum())
        if not n_running:
            break
        if n_running <= SHRINK * len(running):
            kept = running.nonzero()[:, 0]
            writer.keep(kept)
            sources, most, written, ids = (t[kept] for t in (sources, most, written, ids))
            running = running[kept]
    return texts


@torch.inference_mode()
def find_by_beams(writer: Writer, limits: Sequence[int], rules: Rules, search: Search) -> list[list[int]]:
    """The best text of a beam search, as transformers' `generate` finds it for each source by itself.

    At each step the best continuations of a source's beams are ranked. Of the first `search.beams` those that end are finished
    texts, of which as many best stay; the first that do not end stay on the beam.
    """
    n_sources, n_beams = len(limits), search.beams
    texts: list[list[int]] = [[] for _ in limits]
    sources, most = torch.arange(n_sources), torch.tensor(limits)
    finished = torch.full((n_sources, n_beams), float("-inf"))
    running = torch.ones(n_sources, dtype=torch.bool)
    scores = torch.full((n_sources, n_beams), float("-inf"))
    scores[:, 0] = 0.0  # all beams are alike at first: one of them counts
    written = torch.empty(n_sources, n_beams, 0, dtype=torch.long)
    ids = torch.full((n_sources * n_beams,), rules.start)
    for length in range(1, max(limits) + 1):
        logits = writer.step(ids)
        totals, parents, pieces = _rank(logits, scores, written.flatten(0, 1), rules)
        ends = (pieces == rules.end) | (most == length)[:, None]
        ending = (totals[:, :n_beams] / length**search.length_penalty).masked_fill(~ends[:, :n_beams], float("-inf"))
        top, rank = ending.max(dim=1)
        for i in (running & (top > finished[:, 0])).nonzero()[:, 0].tolist():
            piece = int(pieces[i, rank[i]])
            text = written[i, parents[i, rank[i]]].tolist()
            texts[sources[i]] = text if piece == rules.end else [*text, piece]
        finished = torch.cat([finished, ending], dim=1).topk(n_beams, dim=1).values
        scores, chosen = totals.masked_fill(ends, float("-inf")).topk(n_beams, dim=1)
        parents, pieces = parents.gather(1, chosen), pieces.gather(1, chosen)
        running = running & (most > length) & _may_go_on(scores[:, 0], finished, length, most, search)
        n_running = int(running.sum())
        if not n_running:
            break
        if n_running <= SHRINK * len(running):
            kept = running.nonzero()[:, 0]
            writer.keep(kept)
            sources, most, finished, running = (t[kept] for t in (sources, most, finished, running))
            scores, parents, pieces, written = (t[kept] for t in (scores, parents, pieces, written))
        written = written.gather(1, parents[:, :, None].expand(-1, -1, length - 1))
        written = torch.cat([written, pieces[:, :, None]], dim=2)
        writer.reorder((parents + n_beams * torch.arange(len(parents))[:, None]).flatten())
        ids = pieces.flatten()
    return texts


def _may_go_on(scores: Tensor, finished: Tensor, length: int, most: Tensor, search: Search) -> Tensor:
    """Whether a search goes on from the best text on each source's beam; see `Search.early_stopping`.

    scores: (sources,) its log-probability, of `length` pieces; most: (sources,) pieces that it may have.
    finished: (sources, beams) the scores of what is finished, the best first.
    """
    best, worst = finished[:, 0], finished[:, -1]
    if search.early_stopping == "never":
        # A longer text divides its score by more, which lets it rise; with a negative penalty the next step is the best.
        longest = most if search.length_penalty > 0 else torch.full_like(most, length + 1)
        return scores / longest**search.length_penalty > best
    return worst.isinf() if search.early_stopping else scores / length**search.length_penalty > worst


def _rank(logits: Tensor, scores: Tensor, written: Tensor, rules: Rules) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations of each source, twice as many as beams, so that enough are left where some end: their scores, the
    beams that they continue, and their pieces, (sources, 2 n_beams) each.

    logits: (rows, vocabulary); scores: (sources, beams); written: (rows, pieces)
    """
    n_sources, n_beams = scores.shape
    written = written.to(logits.device)
    best = []
    for part, rows in zip(logits.split(ROWS), written.split(ROWS), strict=True):
        likely = part.float().log_softmax(dim=1)
        rules.apply(likely, rows)
        best.append(top(likely, min(2 * n_beams, logits.shape[1])))
    values, pieces = (torch.cat(parts) for parts in zip(*best, strict=True))
    totals = (values.to(scores.device).view(n_sources, n_beams, -1) + scores[:, :, None]).flatten(1)
    totals, ranked = totals.topk(min(2 * n_beams, totals.shape[1]), dim=1)
    pieces = pieces.to(scores.device).view(n_sources, -1).gather(1, ranked)
    return totals, ranked // values.shape[1], pieces


def top(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`logits.topk(k, dim=1)`, in a fraction of its time on a processor: the k largest are in those chunks of the vocabulary
    whose largest are the k largest."""
    n_rows, size = logits.shape
    n_chunks = size // CHUNK
    if n_chunks <= k:
        return logits.topk(k, dim=1)
    largest = logits[:, : n_chunks * CHUNK].view(n_rows, n_chunks, CHUNK).amax(dim=2)
    chunks = largest.topk(k, dim=1).indices
    places = (chunks[:, :, None] * CHUNK + torch.arange(CHUNK, device=logits.device)).flatten(1)
    rest = torch.arange(n_chunks * CHUNK, size, device=logits.device).expand(n_rows, -1)
    places = torch.cat([places, rest], dim=1)
    values, ranked = logits.gather(1, places).topk(k, dim=1)
    return values, places.gather(1, ranked)
