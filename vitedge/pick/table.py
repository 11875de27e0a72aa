"""The artefacts that could be shipped, as a table."""

from __future__ import annotations

from pathlib import Path

from vitedge.pick.choice import Choice, Contender
from vitedge.report.shown import Block, Table

_HEADINGS = ("", "artefact", "target", "p50 ms", "MB", "top-1 %", "lost (95 %)", "misses")


def contenders_table(choice: Choice) -> list[Block]:
    """The contenders, the fastest first; nothing where there are none."""
    if not choice.contenders:
        return []
    table = Table(
        tuple(map(_cells, choice.contenders)),
        _HEADINGS,
        numbers=frozenset([3, 4, 5, 6]),
        styles=tuple("bold" if each is choice.best else "" for each in choice.contenders),
    )
    return [table, "* on the front: none is better in latency, size and accuracy at once"]


def _cells(each: Contender) -> tuple[str, ...]:
    row, drop = each.row, each.drop
    return (
        "*" if each.on_front else "",
        *(Path(row.artifact).name, str(row.target)),
        *(f"{each.latency_ms:#.3g}", f"{row.size_mb:#.3g}"),
        "" if row.accuracy is None else f"{row.accuracy.top1:.1f}",
        # Adding zero makes -0.0 positive.
        f"{drop.points + 0.0:.1f} ({drop.low:.1f} to {drop.high:.1f})",
        ", ".join(miss.limit for miss in each.misses),
    )
