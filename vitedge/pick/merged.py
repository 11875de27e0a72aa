"""Makes and measures artefacts with fewer tokens, as long as one promises to be faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from vitedge.errors import ConversionError, NotAViTError
from vitedge.network.network import Network
from vitedge.pick.choice import Budget, costs_of
from vitedge.pick.fewer_tokens import Course, Line, Measured, Promise, most_promising
from vitedge.pick.made import Made, Variety, named
from vitedge.pipeline.token_merging import TokenOptions
from vitedge.report.results import Report, Row
from vitedge.rewrite.token_schedule import scheduled
from vitedge.targets.target import Target

_Measure: TypeAlias = Callable[[Sequence[Path], Sequence[Target]], Report]

# Wherever tokens can be merged, so many can.
_EASY = 0.95


def merged_within(
    budget: Budget, report: Report, made: Made, measure: _Measure, deadline: float
) -> tuple[Path, ...]:
    """Artefacts with fewer tokens that were worth measuring.

    Args:
        budget: The budget of the artefact.
        report: Artefacts with all tokens, measured.
        made: Makes the artefacts.
        measure: Measures artefacts in turns.
        deadline: The time by ``time.monotonic`` after which no other is begun.
    """
    if not _has_tokens_to_merge(made):
        return ()
    rows = {(str(row.target), row.artifact): row for row in report.rows}
    courses = [each for row in rows.values() if (each := _course(row, budget)) is not None]
    found: dict[Path, None] = {}
    while time.monotonic() < deadline:
        promise = most_promising(courses, budget.max_drop)
        if promise is None:
            break
        path = _made(promise, made)
        if path is None:
            promise.course.refused = promise.share
            continue
        plain = next(
            row.artifact
            for row in rows.values()
            if row.target == promise.course.line.target
            and row.precision == promise.course.line.precision
        )
        measured = _measured(promise, measure((Path(plain), path), (promise.course.line.target,)))
        if measured is None:
            promise.course.refused = promise.share
            continue
        promise.course.measured.append(measured)
        found[path] = None
    return tuple(found)


def _has_tokens_to_merge(made: Made) -> bool:
    try:
        network: Network = made.opened.imported.network
        scheduled(network, _EASY)
    except (NotAViTError, ConversionError):
        return False
    return True


def _course(row: Row, budget: Budget) -> Course | None:
    """A line to follow, where its artefact with all tokens ran and is small enough."""
    costs = costs_of(row)
    if costs is None or row.precision is None:
        return None
    if budget.max_size_mb is not None and row.size_mb > budget.max_size_mb:
        return None
    latency_ms, drop = costs
    constant = row.target.device != "cpu" or row.precision.all_integer
    return Course(Line(row.target, row.format, row.precision, constant), latency_ms, drop.points)


def _made(promise: Promise, made: Made) -> Path | None:
    line = promise.course.line
    tokens = TokenOptions(promise.share, line.constant)
    name = named(made.opened.source, tokens)
    return made.fewer_tokens(Variety(line.precision, line.format, tokens, name))


def _measured(promise: Promise, report: Report) -> Measured | None:
    """The result; None where it did not run as it should."""
    if len(report.rows) != 2:
        return None
    before, now = (costs_of(row) for row in report.rows)
    if before is None or now is None:
        return None
    (before_ms, _), (latency_ms, drop) = before, now
    return Measured(promise.share, latency_ms / before_ms, drop.points)
