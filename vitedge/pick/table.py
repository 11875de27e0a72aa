"""The artefacts that could be shipped, as a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from vitedge.pick.choice import Choice, Contender
from vitedge.report.shown import Block, Table


def contenders_table(choice: Choice) -> list[Block]:
    """The contenders, the fastest first; nothing where there are none."""
    if not choice.contenders:
        return []
    columns = [
        each
        for each in _columns(choice)
        if each.title == "" or any(map(each.cell, choice.contenders))
    ]
    table = Table(
        tuple(tuple(column.cell(each) for column in columns) for each in choice.contenders),
        tuple(column.title for column in columns),
        numbers=frozenset(place for place, each in enumerate(columns) if each.is_number),
        styles=tuple("bold" if each is choice.best else "" for each in choice.contenders),
    )
    return [table, "* on the front: none is better in latency, size and accuracy at once"]


class _Column(NamedTuple):
    title: str
    cell: Callable[[Contender], str]
    is_number: bool = True


def _columns(choice: Choice) -> list[_Column]:
    rows = [each.row for each in choice.contenders]
    is_usual = all(row.target == row.format.default_target for row in rows)
    return [
        _Column("", lambda each: "*" if each.on_front else "", is_number=False),
        _Column("artefact", lambda each: Path(each.row.artifact).name, is_number=False),
        _Column("target", lambda each: "" if is_usual else str(each.row.target), is_number=False),
        _Column("tokens merged", lambda each: each.row.merging, is_number=False),
        _Column("p50 ms", lambda each: f"{each.latency_ms:#.3g}"),
        _Column("MB", lambda each: f"{each.row.size_mb:#.3g}"),
        _Column("top-1 %", _top1),
        _Column("lost (95 %)", _lost),
        _Column(
            "misses", lambda each: ", ".join(miss.limit for miss in each.misses), is_number=False
        ),
    ]


def _top1(each: Contender) -> str:
    return "" if each.row.accuracy is None else f"{each.row.accuracy.top1:.1f}"


def _lost(each: Contender) -> str:
    # Adding zero makes -0.0 positive.
    return f"{each.drop.points + 0.0:.1f} ({each.drop.low:.1f} to {each.drop.high:.1f})"
