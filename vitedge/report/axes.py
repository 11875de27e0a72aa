"""The places in the front, decided before a browser draws it, since labels need room."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vitedge.report.label_places import WIDTHS, Place, Spot, place_labels
from vitedge.report.points import Point, label_of, shows_loss

# Wider ranges squeeze the fast ones against the axis.
_LOG_FROM_RATIO = 20
_SPARE = 0.08  # of the range, at either end


@dataclass(frozen=True)
class Axis:
    """Values from one end to the other.

    Attributes:
        low: The end at the left or the bottom.
        high: The end at the right or the top.
        is_log: Whether equal ratios, not equal differences, are equally far apart.
    """

    low: float
    high: float
    is_log: bool = False

    def share(self, value: float) -> float:
        """The place of a value, 0 at the low end and 1 at the high end."""
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def latency_axis(values_ms: Sequence[float]) -> Axis:
    """An axis from zero, or a logarithmic one if the values differ much."""
    least, most = min(values_ms), max(values_ms)
    if most > _LOG_FROM_RATIO * least:
        return Axis(0.9 * least, 1.1 * most, is_log=True)
    return Axis(0.0, (1 + _SPARE) * most)


def quality_axis(points: Sequence[Point]) -> Axis:
    """Around all qualities and their intervals, and around float32 where that is zero."""
    values = [point.quality for point in points if point.quality is not None]
    values += [end for point in points if point.interval for end in point.interval]
    values += [0.0] if shows_loss(points) else []
    low, high = min(values), max(values)
    spare = _SPARE * (high - low) or 0.5
    return Axis(low - spare, high + spare)


@dataclass(frozen=True)
class Placed:
    """A point with the place of its label.

    Attributes:
        point: The point, which has a quality.
        spot: The point and its words.
        place: The place of the words; None if there is no room for them.
    """

    point: Point
    spot: Spot
    place: Place | None


def placed(
    points: Sequence[Point],
    *,
    height: float,
    largest_radius: float,
    ring_radius: float = 0.0,
    widths: Sequence[float] = WIDTHS,
) -> list[Placed]:
    """Points with their labels.

    Args:
        points: Points that have a quality.
        height: The height of the front between its axes, in pixels.
        largest_radius: The radius of the symbol of the largest file, in pixels.
        ring_radius: The radius of the ring around the pick, in pixels; 0 if none is drawn.
        widths: That the front may have between its axes, in pixels.
    """
    across = latency_axis([point.median_ms for point in points])
    up = quality_axis(points)
    largest = max(point.size_mb for point in points)

    def down(quality: float) -> float:
        return height * (1 - up.share(quality))

    spots = []
    for point in points:
        low, high = point.interval or (point.quality or 0.0, point.quality or 0.0)
        radius = largest_radius * math.sqrt(point.size_mb / largest)
        spots.append(
            Spot(
                x=across.share(point.median_ms),
                y=down(point.quality or 0.0),
                radius=max(radius, ring_radius if point.is_picked else 0.0),
                interval=(down(high), down(low)),
                words=label_of(point, points),
                is_kept=point.is_picked,
            )
        )
    return list(map(Placed, points, spots, place_labels(spots, height, widths)))
