"""Tensors of many axes in few: which axes can be seen as one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby
from typing import TypeAlias

Axes: TypeAlias = tuple[int, ...]


def merged_for_transposition(shape: Axes, order: Axes) -> tuple[Axes, Axes]:
    """A transposition of fewer axes that moves the same numbers to the same places.

    Returns:
        The shape with axes merged that stay neighbours, and those of size 1 gone; and the order of
        what is left.
    """
    long = [axis for axis in order if shape[axis] != 1]
    old = sorted(long)
    runs: list[list[int]] = []
    for axis in long:
        follows = runs and old.index(axis) == old.index(runs[-1][-1]) + 1
        if follows:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    places = sorted(runs)
    merged = tuple(math.prod(shape[axis] for axis in run) for run in places)
    return merged or (1,), tuple(places.index(run) for run in runs) or (0,)


def swaps(shape: Axes, order: Axes) -> Iterator[Axes]:
    """A transposition as several of four axes, each of which swaps the two in the middle.

    Yields:
        Sizes of the four before each.
    """
    left = list(range(len(shape)))
    for place, axis in enumerate(order):
        at = left.index(axis)
        if at != place:
            parts = left[:place], left[place:at], [axis], left[at + 1 :]
            sizes = [math.prod(shape[each] for each in part) for part in parts]
            yield sizes[0], sizes[1], sizes[2], sizes[3]
            left.insert(place, left.pop(at))


def merged_for_broadcast(a: Axes, b: Axes) -> tuple[Axes, Axes]:
    """Two shapes of fewer axes whose elements meet as those of the shapes given."""
    rank = max(len(a), len(b))
    a, b = ((1,) * (rank - len(each)) + each for each in (a, b))
    pairs = [pair for pair in zip(a, b, strict=True) if pair != (1, 1)]
    forms = [
        tuple(math.prod(sizes) for sizes in zip(*run, strict=True))
        for _, run in groupby(pairs, key=lambda pair: (pair[0] == 1, pair[1] == 1))
    ]
    if not forms:
        return (1,), (1,)
    first, second = zip(*forms, strict=True)
    return tuple(first), tuple(second)
