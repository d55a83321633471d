"""Where the marks of a chart stand; `templates/charts.jinja` draws them.

Charts take the width that they get, while letters keep their size: across, places are in percent of the width; up and down
they are in pixels from the top.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

HEIGHT = 260  # pixels
LINE = 17  # pixels between the names of two points
LETTER = 4.0  # percent of the width of a narrow chart

Tick = tuple[float, str]  # place, and what stands there
Bar = tuple[float, float, float]  # a value, and the lower and upper end of its error bar


@dataclass(frozen=True)
class Axis:
    """A scale with round ticks."""

    low: float
    high: float
    step: float

    def share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)

    def across(self, value: float) -> float:
        return round(100 * self.share(value), 2)

    def down(self, value: float) -> float:
        return round(HEIGHT * (1 - self.share(value)), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Values and how they are written."""
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9))
        numbers = range(math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9) + 1)
        return [(number * self.step, f"{number * self.step:,.{digits}f}") for number in numbers]


def make_axis(values: Iterable[float], *, from_zero: bool = False, most: float = math.inf) -> Axis:
    """A scale on which all finite values have room.

    from_zero: begin at 0, so that ratios can be seen.
    most: the highest value that there can be, such as 100 for percent.
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = 0.0 if from_zero else min(finite), max(finite)
    room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    low = max(0.0, low - room) if low >= 0 else low - room  # no scale begins below 0 for nothing
    high = min(high + room, max(most, high))
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return Axis(low, high, next(step * power for step in (1, 2, 5, 10) if step * power >= rough * 0.999))


@dataclass(frozen=True)
class Point:
    """series: 0 for the teacher, from 1 for the students."""

    name: str
    series: int
    x: Bar
    y: Bar


@dataclass(frozen=True)
class Mark:
    """A point where it is drawn: x in percent, y in pixels. name_y: of its name; is_left: which stands on its left."""

    point: Point
    x: Bar
    y: Bar
    name_y: float
    is_left: bool

    def meets(self, other: Mark) -> bool:
        """Whether the names could run into each other, at one height."""
        (first, last), (other_first, other_last) = self._width, other._width
        return first < other_last and other_first < last

    @property
    def _width(self) -> tuple[float, float]:
        """Of the marker and its name."""
        length = LETTER * (len(self.point.name) + 2)
        return (self.x[0] - length, self.x[0] + LETTER) if self.is_left else (self.x[0] - LETTER, self.x[0] + length)


@dataclass(frozen=True)
class Scatter:
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    marks: list[Mark]


def make_scatter(points: Sequence[Point], *, most: float = math.inf) -> Scatter:
    """Points with error bars and names, the x axis from zero. most: the highest y that there can be."""
    x = make_axis((value for point in points for value in point.x), from_zero=True)
    y = make_axis((value for point in points for value in point.y), most=most)
    marks: list[Mark] = []
    for point in sorted(points, key=lambda point: -point.y[0]):
        place = x.across(point.x[0]), x.across(point.x[1]), x.across(point.x[2])
        mark = Mark(point, place, _down(y, point.y), y.down(point.y[0]), is_left=place[0] > 60)
        below = [
            other.name_y + LINE for other in marks if mark.meets(other)
        ]  # from the top, a name without room goes down
        marks.append(replace(mark, name_y=max([mark.name_y, *below])))
    return Scatter(
        [(x.across(value), text) for value, text in x.ticks], [(y.down(value), text) for value, text in y.ticks], marks
    )


def _down(axis: Axis, bar: Bar) -> Bar:
    value, low, high = map(axis.down, bar)
    return value, low, high


@dataclass(frozen=True)
class Curves:
    """lines: of each its series, and its points for a polyline, in a square of 1 by 1 from the top left."""

    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[tuple[int, str]]


def make_curves(lines: Sequence[tuple[int, Sequence[float], Sequence[float]]], *, logarithmic: bool = False) -> Curves:
    """Lines, each of a series, x and y; where y is not finite a line has no point.

    logarithmic: the y axis, on which what is not above 0 has no place.
    """
    if logarithmic:
        lines = [(series, xs, [math.log10(y) if y > 0 else math.nan for y in ys]) for series, xs, ys in lines]
    x = make_axis((value for _, xs, _ in lines for value in xs), from_zero=True)
    y = make_axis(value for _, _, ys in lines for value in ys)
    drawn = [
        (
            series,
            " ".join(f"{x.share(a):.4f},{1 - y.share(b):.4f}" for a, b in zip(xs, ys, strict=True) if math.isfinite(b)),
        )
        for series, xs, ys in lines
    ]
    y_ticks = [
        (y.down(value), f"{float(f'{10**value:.3g}'):,.10g}" if logarithmic else text) for value, text in y.ticks
    ]
    return Curves([(x.across(value), text) for value, text in x.ticks], y_ticks, drawn)
