"""The texts on which a student and its teacher disagree most, and what each side, and the corpus, says of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from spacy.tokens import Doc, Span

from spacy_distil.evaluation.readings import Reading, Statement, View, find_common
from spacy_distil.evaluation.sources import AnnotatedCorpus

WORST = 10  # texts of each component
LONGEST = 100  # tokens of a text that is shown whole
LONGEST_PARSE = 30


@dataclass(frozen=True)
class Arcs:
    """A parse. tags, deps: by token. heads: indices of tokens; its own for a root, -1 for a head that is not shown."""

    tags: list[str]
    heads: list[int]
    deps: list[str]


@dataclass(frozen=True)
class Side:
    """What one side says of what is shown of a text. Characters are counted from its start.

    tokens: first character, and one after the last.
    arcs: of a parse.
    scores: of categories.
    """

    statements: list[Statement]
    tokens: list[tuple[int, int]]
    arcs: Arcs | None = None
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Disagreement:
    """A text of which teacher and student say different things.

    index: the text's number in the corpus, from 0.
    size: how many statements would have to be added, removed or changed to make the one's those of the other.
    distance: between the scores of categories, the sum over labels; it orders texts of the same size.
    text: what is shown, which is not the whole text where `is_part`. direction: `ltr` or `rtl`.
    sides: `teacher`, `gold` where the corpus is annotated, and `student`.
    """

    index: int
    size: int
    distance: float
    view: View
    text: str
    is_part: bool
    direction: str
    sides: dict[str, Side]


def find_disagreements(teacher: AnnotatedCorpus, student: AnnotatedCorpus) -> dict[str, list[Disagreement]]:
    """The worst texts for each component that both have, the worst first."""
    return {
        name: _find(name, reading, teacher, student) for name, reading in find_common(teacher.nlp, student.nlp).items()
    }


def _find(name: str, reading: Reading, teacher: AnnotatedCorpus, student: AnnotatedCorpus) -> list[Disagreement]:
    pipe = teacher.nlp.get_pipe(name)
    labels = pipe.labels if reading.view == "categories" else ()  # type: ignore[attr-defined]
    golds = [set(reading.read(pipe, example.reference)) for example in teacher.examples]
    pairs = list(zip(teacher.said[name], student.said[name], strict=True))
    sizes = [max(len(ours - theirs), len(theirs - ours)) for ours, theirs in pairs]
    docs, answers = teacher.docs, student.docs
    distances = [_distance(*pair, labels) for pair in zip(docs, answers, strict=True)]
    differing = (i for i, size in enumerate(sizes) if size)
    worst = sorted(differing, key=lambda i: (-sizes[i], -distances[i], i))
    found: list[Disagreement] = []
    for i in worst[:WORST]:
        doc = docs[i]
        part = choose_part(doc, pairs[i][0] ^ pairs[i][1], reading.view)
        sides = {"teacher": _show(doc, pairs[i][0], part, reading.view, labels)}
        if any(golds):
            sides["gold"] = _show(teacher.examples[i].reference, golds[i], part, reading.view, labels)
        sides["student"] = _show(answers[i], pairs[i][1], part, reading.view, labels)
        found.append(
            Disagreement(
                index=i,
                size=sizes[i],
                distance=distances[i],
                view=reading.view,
                text=doc.text[slice(*part)],
                is_part=part != (0, len(doc.text)),
                direction=doc.vocab.writing_system.get("direction", "ltr"),
                sides=sides,
            )
        )
    return found


def _distance(teacher: Doc, student: Doc, labels: Iterable[str]) -> float:
    return sum(abs(teacher.cats.get(label, 0.0) - student.cats.get(label, 0.0)) for label in labels)


def choose_part(doc: Doc, differences: Iterable[Statement], view: View) -> tuple[int, int]:
    """The characters to show: all of a short text; of a long one the sentence with the most differences, or, where there are no
    sentences or they are what is compared, as many tokens as may be shown."""
    longest = LONGEST_PARSE if view == "parse" else LONGEST
    if len(doc) <= longest:
        return 0, len(doc.text)
    spans: list[Span] = [doc[i : i + longest] for i in range(0, len(doc), longest // 2)]
    if view not in ("sentences", "categories") and doc.has_annotation("SENT_START"):
        spans = list(doc.sents)
    starts = [start for start, _, _ in differences]
    best = max(spans, key=lambda span: sum(span.start_char <= start < span.end_char for start in starts))
    return best.start_char, best.end_char


def _show(
    doc: Doc, statements: Iterable[Statement], part: tuple[int, int], view: View, labels: Collection[str]
) -> Side:
    first, last = part
    tokens = [token for token in doc if first <= token.idx and token.idx + len(token) <= last]
    places = {token.i: place for place, token in enumerate(tokens)}
    arcs = Arcs(
        tags=[token.pos_ or token.tag_ for token in tokens],
        heads=[places.get(token.head.i, -1) for token in tokens],
        deps=[token.dep_ for token in tokens],
    )
    return Side(
        statements=sorted(
            (max(start, first) - first, min(end, last) - first, what)
            for start, end, what in statements
            if start < last and end > first
        ),
        tokens=[(token.idx - first, token.idx - first + len(token)) for token in tokens],
        arcs=arcs if view == "parse" else None,
        scores={label: float(doc.cats[label]) for label in labels if label in doc.cats},
    )
