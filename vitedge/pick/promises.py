"""Finds which artefact is worth measuring next, by the results so far.

Nothing is measured on a grid. The time of an artefact over that with all its work is nearly a
straight line in the work that is left; what a saving loses grows about with the square of the work
that it leaves out. Both are fitted to what was measured, and what they promise is measured next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

# Time over that with all work is first + second x work: DeiT-tiny in int8 on three runtimes, 0.75
# to 0.80 of the time at 0.7.
_USUAL_TIME = (0.10, 0.97)

# Slopes that two noisy measurements cannot be beyond.
_LEAST_SLOPE, _MOST_SLOPE = 0.5, 1.2

# What is promised must be so much faster than what there is; less is not told apart.
_FASTER = 0.98

# What is usually lost counts as much as one measurement with a seventh of the work gone.
_TRUST = (1 / 7) ** 4

Works: TypeAlias = tuple[float, ...]
"""The share of the work that each saving leaves, 1 where it is not made."""


@dataclass(frozen=True)
class Line:
    """One precision on one target, with any savings.

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
class Kind:
    """A saving, to whoever only promises.

    Attributes:
        works: The shares of the work that it can leave.
        usual_loss: Points lost over the square of the work that is gone, before any measurement.
    """

    works: tuple[float, ...]
    usual_loss: float


@dataclass(frozen=True)
class Measured:
    """An artefact with savings.

    Attributes:
        works: The work that they leave.
        ratio: Its latency over that without savings, measured in turns.
        lost: Points lost in all, against float32.
    """

    works: Works
    ratio: float
    lost: float


@dataclass(eq=False)
class Course:
    """The known facts about a line.

    Attributes:
        line: The line.
        latency_ms: The latency without savings.
        lost: Points lost without savings.
        kinds: The savings that may be made.
        measured: The measurements with savings, in the order of measuring.
        refused: The combinations that cannot be made.
    """

    line: Line
    latency_ms: float
    lost: float
    kinds: tuple[Kind, ...]
    measured: list[Measured] = field(default_factory=list)
    refused: list[Works] = field(default_factory=list)

    def open_works(self, max_drop: float) -> list[Works]:
        """The combinations that nothing measured speaks for or against.

        One that leaves more work than one within the budget is slower, and one that leaves less
        than one that is not within it, or cannot be made, will not be within it either.
        """
        kept = [each.works for each in self.measured if each.lost <= max_drop]
        lost = [each.works for each in self.measured if each.lost > max_drop]
        return [
            works
            for works in product(*((1.0, *kind.works) for kind in self.kinds))
            if any(work < 1 for work in works)
            and not any(_leaves_more(works, each) for each in kept)
            and not any(_leaves_more(each, works) for each in (*lost, *self.refused))
        ]

    def best_ms(self, max_drop: float) -> float:
        """The least latency within the budget, with savings or without; infinite if none is."""
        kept = [each.ratio for each in self.measured if each.lost <= max_drop]
        kept += [1.0] if self.lost <= max_drop else []
        return self.latency_ms * min(kept, default=float("inf"))


@dataclass(frozen=True)
class Promise:
    """An artefact that should be the fastest within the budget.

    Attributes:
        course: Its line.
        works: The work that its savings leave.
        latency_ms: The latency that the course predicts.
        lost: The loss that the course predicts.
    """

    course: Course
    works: Works
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
        for promise in _promises(course, max_drop, everything)
        if promise.lost <= max_drop
    ]
    found = min(promises, key=lambda each: each.latency_ms, default=None)
    return None if found is None or found.latency_ms >= _FASTER * best else found


def _promises(course: Course, max_drop: float, everything: Sequence[Measured]) -> Sequence[Promise]:
    first, slope = _time(course.measured or everything)
    losses = _losses(course)
    return [
        Promise(
            course,
            works,
            latency_ms=course.latency_ms * (first + slope * math.prod(works)),
            lost=course.lost + float(_gone(works) @ losses),
        )
        for works in course.open_works(max_drop)
    ]


def _leaves_more(one: Works, other: Works) -> bool:
    """Whether no saving of one is larger than that of the other."""
    return all(mine >= theirs for mine, theirs in zip(one, other, strict=True))


def _gone(works: Works) -> npt.NDArray[np.float64]:
    return (1 - np.asarray(works)) ** 2


def _time(points: Sequence[Measured]) -> tuple[float, float]:
    """The line through the measured ratios: through one of them with the usual slope."""
    first, slope = _USUAL_TIME
    if not points:
        return first, slope
    works = np.asarray([math.prod(each.works) for each in points])
    ratios = np.asarray([each.ratio for each in points])
    if len(set(works.tolist())) > 1:
        slope = float(np.clip(np.polyfit(works, ratios, 1)[0], _LEAST_SLOPE, _MOST_SLOPE))
    return float((ratios - slope * works).mean()), slope


def _losses(course: Course) -> npt.NDArray[np.float64]:
    """The loss of each saving, over the square of the work that is gone.

    Least squares through what a line lost beyond its artefact without savings, drawn towards what
    is usual, which stays where a saving was not measured.
    """
    usual = np.asarray([kind.usual_loss for kind in course.kinds])
    if not course.measured:
        return usual
    gone = np.stack([_gone(each.works) for each in course.measured])
    lost = np.asarray([each.lost - course.lost for each in course.measured])
    kept = gone.T @ gone + _TRUST * np.eye(len(usual))
    return np.maximum(0.0, np.linalg.solve(kept, gone.T @ lost + _TRUST * usual))
