"""Finds the fewest of a ranking that are enough."""

from __future__ import annotations

from collections.abc import Callable


def fewest(count: int, is_enough: Callable[[int], bool]) -> int:
    """The least number that is enough, found by halving.

    Args:
        count: A number that is known to be enough, at least 1; 0 is known not to be.
        is_enough: Asked of numbers between; where one is enough, larger ones are taken to be.
    """
    short, enough = 0, count
    while enough - short > 1:
        middle = (short + enough) // 2
        if is_enough(middle):
            enough = middle
        else:
            short = middle
    return enough
