"""What teacher, corpus and student say of a text, for a page: displaCy's views of entities, spans and parses, and tables.

Texts and labels are data from strangers. displaCy escapes texts but no labels, so those are escaped here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from markupsafe import Markup, escape
from spacy import displacy
from spacy.displacy.render import DEFAULT_LABEL_COLORS, DependencyRenderer

from spacy_distil.evaluation.disagreements import Disagreement, Side
from spacy_distil.evaluation.readings import Statement, View

ENTITY = '<mark class="entity {mark}" style="background: {bg}">{text} <b>{label}{kb_link}</b></mark>'  # displaCy's, and a mark
COLOURS = ("#a5d8ff", "#b2f2bb", "#ffec99", "#ffc9c9", "#d0bfff", "#99e9f2", "#ffd8a8", "#fcc2d7", "#c3fae8", "#dee2e6")
LETTER = 8.5  # pixels of a letter below a parse
LONGEST_WORD = 16  # letters that are shown there
MOST_CATEGORIES = 8
MOST_TOKENS = 12
CONTEXT = 4  # tokens before and after the one that a table's row is about


@dataclass(frozen=True)
class Cell:
    """What a side says. share: from 0 to 1, drawn as a bar. is_said: whether it decided for it."""

    text: str
    share: float | None = None
    is_said: bool = False


@dataclass(frozen=True)
class Row:
    """What the sides say of a token or of a category; before, after: the token's context."""

    what: str
    cells: list[Cell]
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Drawing:
    """A disagreement as a page shows it: a panel for each side, or a table with a column for each."""

    shown: Disagreement
    panels: dict[str, Markup] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)


def draw(disagreement: Disagreement, key: str) -> Drawing:
    """key: unlike that of any other drawing on the page."""
    if disagreement.view == "tokens":
        return Drawing(disagreement, rows=_token_rows(disagreement))
    if disagreement.view == "categories":
        return Drawing(disagreement, rows=_category_rows(disagreement))
    teacher, student = (set(disagreement.sides[name].statements) for name in ("teacher", "student"))
    alone = teacher ^ student
    render = RENDERERS[disagreement.view]
    panels = {
        name: render(disagreement, side, alone if name != "gold" else set(), f"{key}-{name}")
        for name, side in disagreement.sides.items()
    }
    return Drawing(disagreement, panels=panels)


# Panels of a side. alone: the statements that only one of teacher and student makes. key: of the panel


def _entities(shown: Disagreement, side: Side, alone: set[Statement], key: str) -> Markup:
    entities = [
        {
            "start": start,
            "end": end,
            "label": str(escape(what)),
            "params": {"mark": "differs" if (start, end, what) in alone else ""},
        }
        for start, end, what in side.statements
    ]
    page = {"text": shown.text, "ents": entities, "settings": {"direction": shown.direction}}
    return _displacy(page, "ent", {"template": ENTITY, "colors": _colours(shown)})


def _spans(shown: Disagreement, side: Side, alone: set[Statement], key: str) -> Markup:
    starts = {start: i for i, (start, _) in enumerate(side.tokens)}
    ends = {end: i + 1 for i, (_, end) in enumerate(side.tokens)}
    spans = [
        {
            "start_token": starts[start],
            "end_token": ends[end],
            "label": str(escape(what or "span")) + (" ≠" if (start, end, what) in alone else ""),
        }
        for start, end, what in side.statements
        if start in starts and end in ends
    ]
    tokens = [shown.text[start:end] for start, end in side.tokens]
    page = {"text": shown.text, "spans": spans, "tokens": tokens, "settings": {"direction": shown.direction}}
    colours = {**DEFAULT_LABEL_COLORS, **_colours(shown)}
    marked = {f"{label} ≠": colour for label, colour in colours.items()}
    return _displacy(page, "span", {"colors": {**colours, **marked}})


def _parse(shown: Disagreement, side: Side, alone: set[Statement], key: str) -> Markup:
    assert side.arcs is not None
    differing = {(start, end) for start, end, _ in alone}
    words: list[dict[str, Any]] = []
    arcs: list[dict[str, Any]] = []
    marked: set[int] = set()
    for i, ((start, end), tag, head, dep) in enumerate(
        zip(side.tokens, side.arcs.tags, side.arcs.heads, side.arcs.deps, strict=True)
    ):
        is_root = head == i and bool(dep)
        words.append({"text": _cut(shown.text[start:end]), "tag": str(escape(f"{tag} root" if is_root else tag))})
        if head not in (-1, i):
            if (start, end) in differing:
                marked.add(len(arcs))
            arcs.append(
                {
                    "start": min(i, head),
                    "end": max(i, head),
                    "label": str(escape(dep)),
                    "dir": "left" if i < head else "right",
                }
            )
    renderer = _MarkedParse(marked, _widest(shown))
    renderer.direction = shown.direction
    return Markup(renderer.render_svg(key, words, arcs))


def _widest(shown: Disagreement) -> int:
    """Letters of the longest word, tag or label of all sides, so that the words of all stand one below the other."""
    lengths = [end - start for side in shown.sides.values() for start, end in side.tokens]
    names = [name for side in shown.sides.values() if side.arcs for name in (*side.arcs.tags, *side.arcs.deps)]
    return min(LONGEST_WORD, max([*lengths, *map(len, names)]))


def _cut(word: str) -> str:
    return word if len(word) <= LONGEST_WORD else f"{word[: LONGEST_WORD - 1]}…"


class _MarkedParse(DependencyRenderer):
    """displaCy's parse in the page's colours and letters, with a class on the arcs of some words, and without the empty
    space that its compact style leaves above the arcs.

    marked: the numbers of the arcs. widest: letters that a word has room for.
    """

    def __init__(self, marked: set[int], widest: int) -> None:
        distance = max(72, int(LETTER * widest) + 12)
        super().__init__(
            {
                "compact": True,
                "distance": distance,
                "offset_x": distance // 2 + 8,
                "word_spacing": 26,
                "arrow_width": 5,
                "arrow_stroke": 1.5,
                "color": "currentColor",
                "bg": "transparent",
                "font": "inherit",
            }
        )
        self.marked = marked

    def render_svg(self, render_id: int | str, words: list[dict[str, Any]], arcs: list[dict[str, Any]]) -> str:
        highest = max(self.get_levels(arcs).values(), default=1)
        self.arrow_spacing = min(10, self.distance / highest)  # or low arcs below many others have no width left
        svg = super().render_svg(render_id, words, arcs)
        top = int(self.offset_y - self.highest_level * self.distance / 6) - 4
        height = self.height - top
        svg = svg.replace(f'height="{self.height}"', f'height="{height}" viewBox="0 {top} {self.width} {height}"', 1)
        svg = svg.replace(f"height: {self.height}px", f"height: {height}px", 1)
        return re.sub(r">\s+<", "><", svg)

    def render_arrow(self, label: str, start: int, end: int, direction: str, i: int) -> str:
        svg = super().render_arrow(label, start, end, direction, i)
        return svg.replace("displacy-arrow", "displacy-arrow differs", 1) if i in self.marked else svg


def _sentences(shown: Disagreement, side: Side, alone: set[Statement], key: str) -> Markup:
    items = [
        Markup('<li class="{}">{}</li>').format("differs" if (start, end, what) in alone else "", shown.text[start:end])
        for start, end, what in side.statements
    ]
    return Markup('<ol class="sentences">{}</ol>').format(Markup("").join(items))


RENDERERS: dict[View, Callable[[Disagreement, Side, set[Statement], str], Markup]] = {
    "entities": _entities,
    "spans": _spans,
    "parse": _parse,
    "sentences": _sentences,
}


def _displacy(page: dict[str, Any], style: str, options: dict[str, Any]) -> Markup:
    return Markup(displacy.render(page, style=style, manual=True, jupyter=False, options=options))


def _colours(shown: Disagreement) -> dict[str, str]:
    """A colour for each label that displaCy has none for."""
    labels = sorted({what for side in shown.sides.values() for _, _, what in side.statements})
    new = [str(escape(label or "span")) for label in labels if label.upper() not in DEFAULT_LABEL_COLORS]
    return dict(zip(new, cycle(COLOURS), strict=False))


# Tables


def _token_rows(shown: Disagreement) -> list[Row]:
    """A row for each token, up to MOST_TOKENS, of which teacher and student say different things."""
    said = {name: {(start, end): what for start, end, what in side.statements} for name, side in shown.sides.items()}
    places = sorted({*said["teacher"], *said["student"]})
    rows = []
    for i, place in enumerate(places):
        if said["teacher"].get(place) != said["student"].get(place):
            before = shown.text[places[max(0, i - CONTEXT)][0] : place[0]]
            after = shown.text[place[1] : places[min(len(places) - 1, i + CONTEXT)][1]]
            cells = [Cell(here.get(place, "").replace("|", " ")) for here in said.values()]  # that features may wrap
            rows.append(Row(shown.text[slice(*place)], cells, before, after))
    return rows[:MOST_TOKENS]


def _category_rows(shown: Disagreement) -> list[Row]:
    """A row for each category that a side decided for, and for the next likely ones."""
    chosen = {name: {what for _, _, what in side.statements} for name, side in shown.sides.items()}
    highest: dict[str, float] = {}
    for side in shown.sides.values():
        for label, value in side.scores.items():
            highest[label] = max(value, highest.get(label, 0.0))
    labels = sorted(highest, key=lambda label: (not any(label in said for said in chosen.values()), -highest[label]))
    rows = []
    for label in labels[:MOST_CATEGORIES]:
        cells = []
        for name, side in shown.sides.items():
            is_said, score = label in chosen[name], side.scores.get(label)
            if name == "gold":
                cells.append(Cell("✓" if is_said else "", is_said=is_said))
            else:
                cells.append(Cell("" if score is None else f"{score:.2f}", score, is_said))
        rows.append(Row(label, cells))
    return rows
