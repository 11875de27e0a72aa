"""Chooses the tokens to merge: schedules are measured from coarse to fine, and the fastest is kept.

Fewer tokens are faster but for what the selection costs, and lose more but for chance. So a few
shares of the work come first; what is kept of them is then changed step by step as long as that is
faster and within the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from vitedge.artifacts.token_merging import TokenMerging
from vitedge.rewrite.token_schedule import Scheduled

# Two measurements of one graph in turns differ by less than this.
_FASTER = 0.99

# Of shares of the work that lose too much, as many in a row end the coarse search: one may be bad
# luck with a few images.
_FAILED = 2


@dataclass(frozen=True)
class TokenSearch:
    """Options of the search for a schedule.

    Attributes:
        minutes: The longest time of the search for each artefact; a measurement that was begun is
            finished. None means until nothing is faster.
        constant: Merge the same tokens in every picture.
    """

    minutes: float | None = None
    constant: bool = False


@dataclass(frozen=True, eq=False)
class Trial:
    """A schedule that was measured.

    Attributes:
        scheduled: The schedule, with its network.
        ratio: Its time over that without merging.
        lost: Points that merging alone loses on the images that the search sees.
    """

    scheduled: Scheduled
    ratio: float
    lost: float


@dataclass(frozen=True)
class Proved:
    """The loss of an artefact with merged tokens, measured before it is written.

    Attributes:
        merging: The metadata of the merging.
        budget: The whole loss and its causes, in words.
    """

    merging: TokenMerging
    budget: str


def search(
    coarse: Iterable[Scheduled],
    moves: Callable[[Scheduled], Iterable[Scheduled]],
    measure: Callable[[Scheduled], Trial],
    *,
    allowed: float,
    is_late: Callable[[], bool] = lambda: False,
) -> tuple[Trial, ...]:
    """Measures schedules; the same numbers always lead to the same ones, in the same order.

    Args:
        coarse: Schedules that are far apart, those that leave the most work first.
        moves: Gives schedules near one, the most promising first.
        measure: Measures one.
        allowed: Points that merging may lose.
        is_late: Whether no other may be begun.

    Returns:
        Those within what is allowed that are faster than no merging, the fastest first.
    """
    tried: dict[object, Trial] = {}

    def trial(found: Scheduled) -> Trial:
        tried[found.schedule] = made = measure(found)
        return made

    failed, best = 0, None
    for found in coarse:
        if is_late() or failed == _FAILED:
            break
        if found.schedule in tried:
            continue
        made = trial(found)
        failed = 0 if made.lost <= allowed else failed + 1
        best = _better(best, made, allowed)
    is_better = True
    while best is not None and is_better:
        is_better = False
        for found in moves(best.scheduled):
            if is_late():
                break
            if found.schedule in tried:
                continue
            if (changed := _better(best, trial(found), allowed)) is not best:
                best, is_better = changed, True
                break
    return _within(list(tried.values()), allowed)


def _better(best: Trial | None, made: Trial, allowed: float) -> Trial | None:
    """A trial that is within what is allowed and faster, else the best before it."""
    least = 1.0 if best is None else best.ratio
    return made if made.lost <= allowed and made.ratio < _FASTER * least else best


def _within(trials: Sequence[Trial], allowed: float) -> tuple[Trial, ...]:
    kept = [each for each in trials if each.lost <= allowed and each.ratio < _FASTER]
    return tuple(sorted(kept, key=lambda each: each.ratio))
