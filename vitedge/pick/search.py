"""Makes and measures artefacts that do less, as long as one promises to be faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from vitedge.errors import NotAViTError
from vitedge.pick.choice import Budget, costs_of
from vitedge.pick.made import Choosing, Made, Variety
from vitedge.pick.promises import Course, Kind, Line, Measured, Promise, Works, most_promising
from vitedge.pick.savings import SAVINGS, Level
from vitedge.report.results import Report, Row
from vitedge.targets.target import Target

_Measure: TypeAlias = Callable[[Sequence[Path], Sequence[Target]], Report]


def cheaper_within(
    budget: Budget,
    report: Report,
    made: Made,
    measure: _Measure,
    deadline: float,
    warn: Callable[[str], None],
) -> tuple[Path, ...]:
    """Artefacts with savings that were worth measuring.

    Args:
        budget: The budget of the artefact.
        report: Artefacts without savings, measured.
        made: Makes the artefacts.
        measure: Measures artefacts in turns.
        deadline: The time by ``time.monotonic`` after which no other is begun.
        warn: Told what promised to be faster when the time was over.
    """
    levels = _levels(made)
    if not any(levels):
        return ()
    kinds = tuple(
        Kind(tuple(level.work for level in each), saving.usual_loss)
        for saving, each in zip(SAVINGS, levels, strict=True)
    )
    rows = {(str(row.target), row.artifact): row for row in report.rows}
    courses = [each for row in rows.values() if (each := _course(row, budget, kinds)) is not None]
    found: dict[Path, None] = {}
    while (promise := most_promising(courses, budget.max_drop)) is not None:
        line = promise.course.line
        if time.monotonic() >= deadline:
            less = ", ".join(
                f"{each.saving.name} {each.value:g}" for each in _chosen(promise.works, levels)
            )
            warn(
                f"the minutes ended before all was tried that promises to be faster: next is "
                f"{line.precision} for {line.target} with {less}; give --minutes more, and "
                "--resume FOLDER to keep what was made"
            )
            break
        path = made.cheaper(
            Variety(line.precision, line.format, _chosen(promise.works, levels), line.constant)
        )
        if path is None:
            promise.course.refused.append(promise.works)
            continue
        whole = next(
            row.artifact
            for row in rows.values()
            if row.target == line.target and row.precision == line.precision
        )
        measured = _measured(promise, measure((Path(whole), path), (line.target,)))
        if measured is None:
            promise.course.refused.append(promise.works)
            continue
        promise.course.measured.append(measured)
        found[path] = None
    return tuple(found)


def _levels(made: Made) -> list[Sequence[Level]]:
    """The sizes of each saving that the model allows; nothing of a model that is not a ViT."""
    try:
        network = made.opened.imported.network
    except NotAViTError:
        return []
    return [saving.levels(network) for saving in SAVINGS]


def _chosen(works: Works, levels: Sequence[Sequence[Level]]) -> tuple[Choosing, ...]:
    return tuple(
        Choosing(saving, next(level.value for level in known if level.work == work))
        for saving, known, work in zip(SAVINGS, levels, works, strict=True)
        if work < 1
    )


def _course(row: Row, budget: Budget, kinds: tuple[Kind, ...]) -> Course | None:
    """A line to follow, where its artefact without savings ran and is small enough."""
    costs = costs_of(row)
    if costs is None or row.precision is None:
        return None
    if budget.max_size_mb is not None and row.size_mb > budget.max_size_mb:
        return None
    latency_ms, drop = costs
    constant = row.target.device != "cpu" or row.precision.all_integer
    line = Line(row.target, row.format, row.precision, constant)
    return Course(line, latency_ms, drop.points, kinds)


def _measured(promise: Promise, report: Report) -> Measured | None:
    """The result; None where it did not run as it should."""
    if len(report.rows) != 2:
        return None
    before, now = (costs_of(row) for row in report.rows)
    if before is None or now is None:
        return None
    (before_ms, _), (latency_ms, drop) = before, now
    return Measured(promise.works, latency_ms / before_ms, drop.points)
