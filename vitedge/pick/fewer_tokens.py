"""Finds how far tokens are worth merging: the artefact to measure next, by the results so far.

Nothing is measured on a grid. The time of an artefact over that with all its tokens is nearly a
straight line in the work that is left; what merging loses grows about with the square of the work
that is gone. Both are fitted to what was measured, and what they promise is measured next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

# Time over that with all tokens is first + second x work, and points lost are second x (work gone)
# squared: DeiT-tiny in int8 on three runtimes, 0.75 to 0.80 of the time and 0.2 points at 0.7.
_USUAL_TIME = (0.10, 0.97)
_USUAL_LOSS = 2.0

# Slopes that two noisy measurements cannot be beyond.
_LEAST_SLOPE, _MOST_SLOPE = 0.5, 1.2

# What is promised must be so much faster than what there is; less is not told apart.
_FASTER = 0.98

_SHARES = tuple(percent / 100 for percent in range(95, 35, -5))


@dataclass(frozen=True)
class Line:
    """One precision on one target, with any number of tokens.

    Attributes:
        target: The target that it runs on.
        format: Its format.
        precision: Its precision.
        constant: Merge the same tokens in every picture: the device cannot sort.
    """

    target: Target
    format: Format
    precision: Precision
    constant: bool


@dataclass(frozen=True)
class Measured:
    """An artefact with fewer tokens.

    Attributes:
        share: The share of the work, as it was asked for.
        ratio: Its latency over that with all tokens, measured in turns.
        lost: Points lost in all, against float32.
    """

    share: float
    ratio: float
    lost: float


@dataclass(eq=False)
class Course:
    """The known facts about a line.

    Attributes:
        line: The line.
        latency_ms: The latency with all tokens.
        lost: Points lost with all tokens.
        measured: The measurements with fewer tokens, in the order of measuring.
        refused: The largest share that cannot be made, or 0.
    """

    line: Line
    latency_ms: float
    lost: float
    measured: list[Measured] = field(default_factory=list)
    refused: float = 0.0

    def open_shares(self, max_drop: float) -> list[float]:
        """Shares between one that is within the budget and one that is not."""
        kept = [each.share for each in self.measured if each.lost <= max_drop]
        lost = [each.share for each in self.measured if each.lost > max_drop]
        above, below = min(kept, default=1.0), max([self.refused, *lost], default=0.0)
        return [share for share in _SHARES if below < share < above]

    def best_ms(self, max_drop: float) -> float:
        """The least latency within the budget, with all tokens or fewer; infinite if none is."""
        kept = [each.ratio for each in self.measured if each.lost <= max_drop]
        kept += [1.0] if self.lost <= max_drop else []
        return self.latency_ms * min(kept, default=float("inf"))


@dataclass(frozen=True)
class Promise:
    """An artefact that should be the fastest within the budget.

    Attributes:
        course: Its line.
        share: The share of the work.
        latency_ms: The latency that the course predicts.
        lost: The loss that the course predicts.
    """

    course: Course
    share: float
    latency_ms: float
    lost: float


def most_promising(courses: Sequence[Course], max_drop: float) -> Promise | None:
    """The artefact to measure next; None where none promises to be faster.

    Args:
        courses: The known courses.
        max_drop: Points that may be lost in all.
    """
    best = min((each.best_ms(max_drop) for each in courses), default=float("inf"))
    everything = [point for each in courses for point in each.measured]
    promises = [
        promise
        for course in courses
        if course.lost <= max_drop
        for share in course.open_shares(max_drop)
        if (promise := _promise(course, share, everything)).lost <= max_drop
    ]
    found = min(promises, key=lambda each: each.latency_ms, default=None)
    return None if found is None or found.latency_ms >= _FASTER * best else found


def _promise(course: Course, share: float, everything: Sequence[Measured]) -> Promise:
    first, slope = _time(course.measured or everything)
    loss = _loss(course)
    latency = course.latency_ms * (first + slope * share)
    return Promise(course, share, latency, course.lost + loss * (1 - share) ** 2)


def _time(points: Sequence[Measured]) -> tuple[float, float]:
    """The line through the measured ratios: through one of them with the usual slope."""
    first, slope = _USUAL_TIME
    if not points:
        return first, slope
    shares = np.asarray([each.share for each in points])
    ratios = np.asarray([each.ratio for each in points])
    if len(set(shares.tolist())) > 1:
        slope = float(np.clip(np.polyfit(shares, ratios, 1)[0], _LEAST_SLOPE, _MOST_SLOPE))
    return float((ratios - slope * shares).mean()), slope


def _loss(course: Course) -> float:
    """Least squares through what a line lost beyond its artefact with all tokens."""
    if not course.measured:
        return _USUAL_LOSS
    gone = np.asarray([(1 - each.share) ** 2 for each in course.measured])
    lost = np.asarray([each.lost - course.lost for each in course.measured])
    return max(0.0, float(gone @ lost / (gone @ gone)))
