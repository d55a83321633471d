"""Greedy and beam search, against definitions written down slowly."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from spacy_distil.errors import ComponentError
from spacy_distil.pipeline.generation.search import MARGIN, Rules, Search, Stopping, find_texts, top

START, END = 0, 1
Text = tuple[int, ...]


class Table:
    """A model whose logits are random numbers for each source and all that has been written: no cache of it can be wrong
    unnoticed."""

    def __init__(self, n_sources: int, n_beams: int, size: int, *, favour_end: float = 0.0) -> None:
        self.n_beams, self.size, self.favour_end = n_beams, size, favour_end
        self.rows = [(source, ()) for source in range(n_sources) for _ in range(n_beams)]
        self.n_steps = 0

    def logits(self, source: int, text: Text) -> Tensor:
        generator = torch.Generator().manual_seed(hash((source, text)) % 2**31)
        values = 2.0 * torch.randn(self.size, generator=generator)
        values[END] += self.favour_end
        return values

    def step(self, ids: Tensor) -> Tensor:
        self.n_steps += 1
        self.rows = [(source, (*text, i)) for (source, text), i in zip(self.rows, ids.tolist(), strict=True)]
        return torch.stack([self.logits(*row) for row in self.rows])

    def reorder(self, rows: Tensor) -> None:
        assert all(i // self.n_beams == row // self.n_beams for i, row in enumerate(rows.tolist()))
        self.rows = [self.rows[row] for row in rows.tolist()]

    def keep(self, sources: Tensor) -> None:
        self.rows = [self.rows[i * self.n_beams + beam] for i in sources.tolist() for beam in range(self.n_beams)]


def log_probability(table: Table, source: int, text: Text) -> float:
    """Of a text without start."""
    return sum(float(table.logits(source, (START, *text[:i])).log_softmax(0)[piece]) for i, piece in enumerate(text))


def repeats(text: Text, n: int) -> bool:
    windows = [text[i : i + n] for i in range(len(text) - n + 1)]
    return len(set(windows)) < len(windows)


def likeliest(table: Table, source: int, limit: int, length_penalty: float) -> Text:
    """Of all texts that end, or are as long as the limit."""
    pieces = [i for i in range(table.size) if i not in (START, END)]
    texts = [(*text, END) for n in range(limit) for text in itertools.product(pieces, repeat=n)]
    texts += list(itertools.product(pieces, repeat=limit))
    return max(texts, key=lambda text: log_probability(table, source, text) / len(text) ** length_penalty)


def search_slowly(table: Table, source: int, limit: int, search: Search) -> Text:
    """Beam search as it is defined: up to the limit, where it never stops early."""
    n_beams, no_repeat = search.beams, search.no_repeat

    def score(text: Text) -> float:
        return log_probability(table, source, text) / len(text) ** search.length_penalty

    beams: list[Text] = [()]
    finished: list[Text] = []
    for length in range(1, limit + 1):
        continuations = [(*beam, piece) for beam in beams for piece in range(table.size) if piece != START]
        if no_repeat:
            continuations = [text for text in continuations if text[-1] == END or not repeats(text, no_repeat)]
        ranked = sorted(continuations, key=lambda text: log_probability(table, source, text), reverse=True)
        finished += [text for text in ranked[:n_beams] if text[-1] == END or length == limit]
        beams = [text for text in ranked[: 2 * n_beams] if text[-1] != END][:n_beams]
        finished = sorted(finished, key=score, reverse=True)[:n_beams]
        if search.early_stopping == "never" or len(finished) < n_beams:
            continue
        if search.early_stopping or not beams or score(beams[0]) <= score(finished[-1]):
            break
    return max(finished, key=score)


def without_end(text: Text) -> list[int]:
    return [piece for piece in text if piece != END]


@pytest.mark.parametrize("length_penalty", [-0.5, 0.0, 1.0, 2.0])
def test_a_beam_as_wide_as_all_texts_finds_the_likeliest(length_penalty: float) -> None:
    table = Table(3, 81, 5)
    search = Search(beams=81, length_penalty=length_penalty, early_stopping="never")
    found = find_texts(table, [4, 3, 4], Rules(START, END, (START,)), search)
    assert found == [
        without_end(likeliest(table, source, limit, length_penalty)) for source, limit in enumerate([4, 3, 4])
    ]


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("no_repeat", [0, 1, 2, 3])
@pytest.mark.parametrize("length_penalty", [-0.5, 0.0, 0.7, 1.5])
@pytest.mark.parametrize("n_beams", [2, 3, 5])
def test_beam_search_equals_its_definition(
    n_beams: int, length_penalty: float, no_repeat: int, early_stopping: Stopping
) -> None:
    limits = [6, 1, 4, 6, 5, 6, 2, 6]
    table = Table(len(limits), n_beams, 12, favour_end=1.0)
    rules = Rules(START, END, (START,), no_repeat)
    search = Search(n_beams, length_penalty, no_repeat, early_stopping=early_stopping)
    found = find_texts(table, limits, rules, search)
    slowly = [search_slowly(table, source, limit, search) for source, limit in enumerate(limits)]
    assert found == [without_end(text) for text in slowly]
    assert len(set(map(len, found))) > 1


@pytest.mark.parametrize("no_repeat", [0, 1, 2])
def test_greedy_search_takes_the_likeliest_piece_at_each_step(no_repeat: int) -> None:
    limits = [9, 3, 9, 1, 9, 9]
    table = Table(len(limits), 1, 7, favour_end=0.5)
    found = find_texts(table, limits, Rules(START, END, (START,), no_repeat), Search(beams=1, no_repeat=no_repeat))
    for source, limit in enumerate(limits):
        text: Text = ()
        while len(text) < limit and END not in text:
            order = table.logits(source, (START, *text)).argsort(descending=True).tolist()
            allowed = [
                i for i in order if i != START and (i == END or not no_repeat or not repeats((*text, i), no_repeat))
            ]
            text = (*text, allowed[0])
        assert found[source] == without_end(text)


@pytest.mark.parametrize("n_beams", [1, 4])
def test_the_limit_holds_for_each_source(n_beams: int) -> None:
    limits = [5, 2, 7]
    table = Table(3, n_beams, 9, favour_end=-50.0)
    found = find_texts(table, limits, Rules(START, END, (START,)), Search(beams=n_beams))
    assert [len(text) for text in found] == limits


@pytest.mark.parametrize("n_beams", [1, 4])
def test_silent_pieces_are_never_written(n_beams: int) -> None:
    table = Table(4, n_beams, 9)
    found = find_texts(table, [8] * 4, Rules(START, END, (START, 3, 4)), Search(beams=n_beams))
    assert not {START, END, 3, 4} & {piece for text in found for piece in text}


@pytest.mark.parametrize("n_beams", [1, 3])
def test_where_everything_is_forbidden_the_text_ends(n_beams: int) -> None:
    table = Table(1, n_beams, 4, favour_end=-50.0)
    (found,) = find_texts(table, [20], Rules(START, END, (START,), 1), Search(beams=n_beams, no_repeat=1))
    assert sorted(found) == [2, 3]


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
def test_a_search_stops_once_nothing_can_become_better(early_stopping: Stopping) -> None:
    table = Table(2, 3, 9, favour_end=20.0)
    search = Search(beams=3, early_stopping=early_stopping)
    assert find_texts(table, [50, 50], Rules(START, END, (START,)), search) == [[], []]
    assert table.n_steps < 50


def test_a_search_stops_the_earlier_the_less_could_still_become_better() -> None:
    n_steps = []
    for early_stopping in (True, False, "never"):
        table = Table(2, 3, 9, favour_end=4.0)
        find_texts(table, [50, 50], Rules(START, END, (START,)), Search(beams=3, early_stopping=early_stopping))
        n_steps.append(table.n_steps)
    assert n_steps[0] < n_steps[1] < n_steps[2] < 50


@pytest.mark.parametrize(("rows", "size", "k"), [(3, 1000, 8), (2, 64, 8), (1, 30522, 10), (4, 8000, 1), (2, 5, 5)])
def test_top_is_topk(rows: int, size: int, k: int) -> None:
    logits = torch.randn(rows, size)
    values, places = top(logits, k)
    expected = logits.topk(k, dim=1)
    assert torch.equal(values, expected.values)
    assert torch.equal(places, expected.indices)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"beams": 0}, "beams = 0"),
        ({"no_repeat": -1}, "-1"),
        ({"max_length": 0}, "max_length = 0"),
        ({"max_ratio": -1.0}, "-1"),
        ({"early_stopping": "always"}, "early_stopping = 'always'"),
    ],
)
def test_settings_that_can_not_be_are_an_error(settings: dict[str, float | str], named: str) -> None:
    with pytest.raises(ComponentError, match=named):
        Search(**settings)  # type: ignore[arg-type]


def test_limits_are_the_least_of_all() -> None:
    assert Search(max_length=20, max_ratio=2.0).limits([2, 4, 40], 100) == [2 * 2 + MARGIN, 2 * 4 + MARGIN, 20]
    assert Search(max_length=20, max_ratio=None).limits([2], 12) == [12]
