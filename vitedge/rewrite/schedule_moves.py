"""Schedules of merging to try: a few far apart, and those near one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from vitedge.errors import ConversionError
from vitedge.network.network import Network
from vitedge.rewrite.merge_tokens import Merging, places
from vitedge.rewrite.token_schedule import ROWS, Scheduled, scheduled, with_schedule

# Shares of the work; below, merging every second token twice leaves about as much.
_SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4)

# Steps of the share between two of them.
_STEPS = (0.06, 0.04, 0.02)

# A small model has fewer tokens than integer kernels take at once.
_SMALLEST_PART = 16

# A schedule with fewer merges saves a selection, which is worth about this much of the work.
_SELECTION = 0.03


def far_apart(network: Network) -> Iterator[Scheduled]:
    """Schedules from much work to little, as far as merging goes.

    Raises:
        ConversionError: Tokens of this model cannot be merged at all.
    """
    for number, share in enumerate(_SHARES):
        try:
            yield scheduled(network, share)
        except ConversionError:
            if number == 0:
                raise
            return


def near(network: Network, found: Scheduled) -> Iterator[Scheduled]:
    """Schedules near one that leave less work, or about as much in fewer merges.

    First come those of a smaller share by the rule; then one merge is moved by a block, takes more
    tokens, gives some to another, or is left out.
    """
    for step in _STEPS:
        try:
            yield scheduled(network, found.share - step)
        except ConversionError:
            continue
    for schedule in _changed(network, found.schedule):
        try:
            made = with_schedule(network, schedule)
        except ConversionError:
            continue
        spare = _SELECTION if len(schedule) < len(found.schedule) else 0.0
        if made.share < found.share + spare:
            yield made


def _changed(network: Network, schedule: Sequence[Merging]) -> Iterator[tuple[Merging, ...]]:
    known = places(network)
    first = next(place for place in known if place is not None)
    step = (
        ROWS if first.loose > _SMALLEST_PART * ROWS // 2 else max(1, first.loose // _SMALLEST_PART)
    )
    allowed = [number for number, place in enumerate(known) if place is not None]
    for at, each in enumerate(schedule):
        before = schedule[at - 1].block if at else -1
        behind = schedule[at + 1].block if at + 1 < len(schedule) else len(known)
        for block in (each.block - 1, each.block + 1):
            if block in allowed and before < block < behind:
                yield _with(schedule, at, replace(each, block=block))
    for at, each in enumerate(schedule):
        yield _with(schedule, at, replace(each, tokens=each.tokens + step))
    for at, each in enumerate(schedule):
        for other, giving in enumerate(schedule):
            if other != at and giving.tokens > step:
                more = _with(schedule, at, replace(each, tokens=each.tokens + step))
                yield _with(more, other, replace(giving, tokens=giving.tokens - step))
    for at, each in enumerate(schedule):
        rest = (*schedule[:at], *schedule[at + 1 :])
        for other, taking in enumerate(rest):
            yield _with(rest, other, replace(taking, tokens=taking.tokens + each.tokens))


def _with(schedule: Sequence[Merging], at: int, step: Merging) -> tuple[Merging, ...]:
    return (*schedule[:at], step, *schedule[at + 1 :])
