"""Places the words beside the points of a chart so that none lie on one another.

Charts are as wide as the window, which is not known here: a place counts only where it is free in a
narrow chart, in a middling one and in a wide one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Of what is drawn between the axes, in pixels: on a phone, on a tablet, on a desk.
WIDTHS = (250.0, 660.0, 1120.0)
_CHARACTER, _LINE = 7.2, 15.0  # of the widest system fonts at 12 pixels
_GAP = 3.0


@dataclass(frozen=True)
class Spot:
    """A point with words.

    Attributes:
        x: The distance from the left of the chart, 0..1.
        y: The distance from its top, in pixels.
        radius: The radius of its symbol, in pixels.
        interval: Top and bottom of the line through it, in pixels; words avoid it if they can.
        words: The words that should stand beside it.
        is_kept: Its words come before those of others.
    """

    x: float
    y: float
    radius: float
    interval: tuple[float, float]
    words: str
    is_kept: bool = False


@dataclass(frozen=True)
class Place:
    """The place of words, relative to the middle of their point, in pixels.

    Attributes:
        dx: The distance of the end that ``align`` names, to the right.
        dy: The distance of their middle, downwards.
        align: ``left`` or ``right``, as in Vega-Lite.
    """

    dx: float
    dy: float
    align: str


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def place_labels(
    spots: Sequence[Spot], height: float, widths: Sequence[float] = WIDTHS
) -> list[Place | None]:
    """A place for the words of each spot; None where all places are taken.

    Args:
        spots: Every symbol of the chart.
        height: The height of the drawing between the axes, in pixels.
        widths: That the chart may have between its axes, in pixels.
    """
    found: list[Place | None] = [None] * len(spots)
    taken = {width: [_symbol(spot, width) for spot in spots] for width in widths}
    lines = {width: [_line(spot, width) for spot in spots] for width in widths}
    order = sorted(range(len(spots)), key=lambda index: not spots[index].is_kept)
    no_lines: dict[float, list[_Box]] = {width: [] for width in widths}
    for obstacles in (lines, no_lines):
        for index in (index for index in order if found[index] is None):
            for place in _places(spots[index]):
                boxes = {width: _words(spots[index], place, width) for width in widths}
                if all(
                    _is_free(box, [*taken[width], *obstacles[width]], width, height)
                    for width, box in boxes.items()
                ):
                    found[index] = place
                    for width, box in boxes.items():
                        taken[width].append(box)
                    break
    return found


def _places(spot: Spot) -> list[Place]:
    """The places to try, those beside the symbol first: above and below it stands its interval."""
    away = spot.radius + _GAP
    near = 0.7 * spot.radius + _GAP
    beside = [Place(away, 0.0, "left"), Place(-away, 0.0, "right")]
    aslant = [
        Place(sign * near, dy, "left" if sign > 0 else "right")
        for dy in (-near - _LINE / 2, near + _LINE / 2)
        for sign in (1, -1)
    ]
    return [*beside, *aslant]


def _is_free(box: _Box, taken: Sequence[_Box], width: float, height: float) -> bool:
    inside = box.left >= 0 and box.right <= width and box.top >= 0 and box.bottom <= height
    return inside and not any(map(box.meets, taken))


def _symbol(spot: Spot, width: float) -> _Box:
    x, radius = spot.x * width, spot.radius
    return _Box(x - radius, spot.y - radius, x + radius, spot.y + radius)


def _line(spot: Spot, width: float) -> _Box:
    x = spot.x * width
    return _Box(x - 1, spot.interval[0], x + 1, spot.interval[1])


def _words(spot: Spot, place: Place, width: float) -> _Box:
    long = _CHARACTER * len(spot.words)
    x = spot.x * width + place.dx
    left = x if place.align == "left" else x - long
    y = spot.y + place.dy
    return _Box(left, y - _LINE / 2, left + long, y + _LINE / 2)
