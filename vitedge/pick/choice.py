"""Chooses one artefact among measured rows, by a budget.

The rule: of the artefacts that ran as they should and whose measured drop, latency and size are
within the budget, the fastest; of those not clearly slower than it, the most accurate. Where none
is within the budget, the nearest: the one with the fewest limits missed, and of those the one whose
worst miss is the smallest part of its limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vitedge.bench.spread import paired_drop
from vitedge.report.quality import Drop
from vitedge.report.results import Row, Status

# Two runs of one artefact differ by this much; nobody ships a less accurate file for less.
_AS_FAST = 1.05

# A limit of zero or near it would make every miss infinitely large.
_LEAST_DROP_SCALE = 1.0


@dataclass(frozen=True)
class Budget:
    """The costs that an artefact may have.

    Attributes:
        max_drop: Top-1 that may be lost against float32, in percentage points.
        max_latency_ms: Median latency, or None.
        max_size_mb: Size of all its files in 10^6 bytes, or None.
    """

    max_drop: float
    max_latency_ms: float | None = None
    max_size_mb: float | None = None


@dataclass(frozen=True)
class Miss:
    """A limit that was missed.

    Attributes:
        limit: ``drop``, ``latency`` or ``size``.
        words: The miss, in words.
        share: The excess as a share of the limit.
    """

    limit: str
    words: str
    share: float


@dataclass(frozen=True)
class Contender:
    """A row that could be shipped.

    Attributes:
        row: The measured row.
        latency_ms: Its median.
        drop: Top-1 lost against float32. Without labels, what would be lost if every image whose
            class changed had been right before.
        misses: Limits missed; empty within the budget.
        on_front: Whether no other is at least as good in drop, latency and size, and better in one.
    """

    row: Row
    latency_ms: float
    drop: Drop
    misses: tuple[Miss, ...]
    on_front: bool

    def __str__(self) -> str:
        return f"{self.row.artifact} on {self.row.target}"


@dataclass(frozen=True)
class Choice:
    """The artefact, and the others.

    Attributes:
        best: The one to ship, or the nearest when none is within the budget; None when none could
            be shipped at all.
        contenders: All that ran as they should, the fastest first.
        budget: The budget that was asked for.
    """

    best: Contender | None
    contenders: tuple[Contender, ...]
    budget: Budget

    @property
    def meets_budget(self) -> bool:
        """Whether the best is within the budget."""
        return self.best is not None and not self.best.misses


def choose(rows: Sequence[Row], budget: Budget) -> Choice:
    """Names one artefact."""
    measured = [(row, *found) for row in rows if (found := costs_of(row)) is not None]
    contenders = sorted(
        (
            Contender(
                row,
                latency_ms,
                drop,
                misses=_misses(row, latency_ms, drop, budget),
                on_front=not any(
                    _beats((other[2].points, other[1], other[0].size_mb), costs)
                    for other in measured
                ),
            )
            for row, latency_ms, drop in measured
            if (costs := (drop.points, latency_ms, row.size_mb))
        ),
        key=lambda contender: contender.latency_ms,
    )
    return Choice(_best(contenders), tuple(contenders), budget)


def drop_of(row: Row) -> Drop | None:
    """Top-1 lost against float32; without labels the most that the flips can have cost.

    Of what names no classes, the points lost of the task's own measure.
    """
    if row.task_quality is not None:
        return row.task_quality.drop
    found = row.vs_float
    if found is None:
        return None
    return found.drop or paired_drop(found.flipped, 0, found.n)


def costs_of(row: Row) -> tuple[float, Drop] | None:
    """Median milliseconds and points lost; None of a row that did not go as it should."""
    spread, drop = row.latency_ms, drop_of(row)
    if row.status not in (Status.OK, Status.SLOWER) or spread is None or drop is None:
        return None
    return spread.mean if spread.p50 is None else spread.p50, drop


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether one is no worse in anything and better in something."""
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))


def _misses(row: Row, latency_ms: float, drop: Drop, budget: Budget) -> tuple[Miss, ...]:
    found = []
    if drop.points > budget.max_drop:
        excess = drop.points - budget.max_drop
        words = f"loses {drop.points:.2f} points, {budget.max_drop:g} allowed"
        found.append(Miss("drop", words, excess / max(budget.max_drop, _LEAST_DROP_SCALE)))
    for name, value, limit, unit in (
        ("latency", latency_ms, budget.max_latency_ms, "ms"),
        ("size", row.size_mb, budget.max_size_mb, "MB"),
    ):
        if limit is not None and value > limit:
            found.append(Miss(name, f"{value:#.3g} {unit}, {limit:g} allowed", value / limit - 1))
    return tuple(found)


def _best(contenders: Sequence[Contender]) -> Contender | None:
    if not contenders:
        return None
    within = [contender for contender in contenders if not contender.misses]
    if not within:
        return min(
            contenders,
            key=lambda contender: (
                len(contender.misses),
                max(miss.share for miss in contender.misses),
            ),
        )
    as_fast = [each for each in within if each.latency_ms <= _AS_FAST * within[0].latency_ms]
    return min(as_fast, key=lambda each: (each.drop.points, -_agreement(each), each.row.size_mb))


def _agreement(contender: Contender) -> float:
    return contender.row.vs_float.agreement if contender.row.vs_float else 0.0
