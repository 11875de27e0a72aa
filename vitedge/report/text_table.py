"""A report as a table in a terminal, however narrow."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from vitedge.report.measured_over import measured_over
from vitedge.report.results import Report, Row, Spread, Status
from vitedge.report.shown import Block, Table
from vitedge.targets.precisions import all_precisions
from vitedge.terminal.printable import printable

_STYLES = {
    Status.OK: "green",
    Status.SLOWER: "yellow",
    Status.FALLBACK: "yellow",
    Status.UNAVAILABLE: "dim",
}
_TROUBLE = "bold red"
_COLUMN_GAP = 2
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Column:
    """A column and when to leave it out.

    Attributes:
        title: Its head.
        cell: A row's text in it; empty when there is none.
        rank: The order in which columns are left out in a narrow terminal, the highest first; 0
            always stays.
        is_number: Aligned right.
    """

    title: str
    cell: Callable[[Row], str]
    rank: int
    is_number: bool = True


def render_table(report: Report, width: int | None = None) -> Table:
    """The rows as a table.

    Columns in which no row has anything are left out; so are the least important ones when they
    do not fit.

    Args:
        report: The report of the bench.
        width: Characters of a line; None leaves out nothing for want of space.
    """
    rows, columns = filled(report)
    columns = _telling(columns, rows)
    if width is not None:
        columns = _fitting(columns, rows, width)
    return Table(
        rows=tuple(tuple(column.cell(row) for column in columns) for row in rows),
        headings=tuple(column.title for column in columns),
        numbers=frozenset(place for place, each in enumerate(columns) if each.is_number),
        styles=tuple(_STYLES.get(row.status, _TROUBLE) for row in rows),
    )


def blocks(report: Report, width: int | None) -> list[Block]:
    """The table, and below it what it has no room for."""
    found: list[Block] = [render_table(report, width)]
    if all(row.status is Status.OK for row in report.rows):
        found.append(f"{_all_of(len(report.rows))} OK")
    if width is not None and (titles := without_room(report, width)):
        found.append(f"no room for: {', '.join(titles)}; a wider terminal and --markdown have it")
    return [*found, *notes(report)]


def _all_of(count: int) -> str:
    return "the one row is" if count == 1 else f"all {count} rows are"


def _telling(columns: list[Column], rows: tuple[Row, ...]) -> list[Column]:
    """The columns that tell rows apart, or say what is not as usual."""
    is_usual = {
        "status": all(row.status is Status.OK for row in rows),
        "target": len({row.artifact for row in rows}) == len(rows)
        and all(row.target == row.format.default_target for row in rows),
    }
    return [column for column in columns if not is_usual.get(column.title, False)]


def without_room(report: Report, width: int) -> tuple[str, ...]:
    """Titles of the columns that lines of so many characters do not hold."""
    rows, columns = filled(report)
    columns = _telling(columns, rows)
    kept = _fitting(columns, rows, width)
    return tuple(column.title for column in columns if column not in kept)


def filled(report: Report) -> tuple[tuple[Row, ...], list[Column]]:
    """The rows and the columns that are not empty.

    Rows stand by format and precision, and are named below the folder that they share.
    """
    rows = tuple(
        replace(row, artifact=printable(row.artifact))
        for row in sorted(_below_common_folder(report.rows), key=_place)
    )
    columns = _columns_of(rows)
    return rows, [column for column in columns if any(column.cell(row) for row in rows)]


def notes(report: Report) -> tuple[str, ...]:
    """The facts that the table has no room for: messages, unstable times, unreadable images."""
    found = list(report.environment.warnings)
    found += [
        f"{row.artifact} on {row.target}: {row.status}: {row.message}"
        for row in report.rows
        if row.message
    ]
    found += measured_over(report.rows)
    found += _unstable(report.rows)
    if report.data is not None and report.data.unreadable:
        listed = report.data.unreadable
        found.append(f"{len(listed)} of {report.data.n} images are unreadable: {listed[0]}")
    if report.left_out:
        names = ", ".join(f"{each.target} ({each.readiness})" for each in report.left_out)
        found.append(
            f"not measured, as not asked for by name and not ready here: {names}; "
            "`vitedge targets` says why"
        )
    return tuple(printable(" ".join(note.split())) for note in found)


def _unstable(rows: tuple[Row, ...]) -> list[str]:
    """The reasons for unstable times: in one line where all rows share the cause."""
    causes = [row.unstable for row in rows]
    shared = {_NUMBER.sub("#", cause) for cause in causes}
    if len(rows) > 1 and len(shared) == 1 and all(causes):
        numbers = sorted(
            {number for cause in causes for number in _NUMBER.findall(cause)}, key=float
        )
        words = _NUMBER.sub("{}", causes[0])
        if words.count("{}") == 1 and len(numbers) > 1:
            return [f"all times are unstable: {words.format(f'{numbers[0]} to {numbers[-1]}')}"]
        return [f"all times are unstable: {causes[0]}"]
    return [
        f"{row.artifact} on {row.target}: times are unstable: {row.unstable}"
        for row in rows
        if row.unstable
    ]


def _place(row: Row) -> tuple[int, int]:
    known = all_precisions()
    place = len(known) if row.precision is None else known.index(row.precision)
    return row.format.record.order, place


def _fitting(columns: list[Column], rows: tuple[Row, ...], width: int) -> list[Column]:
    kept = list(columns)
    while sum(_width(column, rows) for column in kept) > width + _COLUMN_GAP:
        least = max(kept, key=lambda column: column.rank)
        if least.rank == 0:
            break  # what is left folds
        kept.remove(least)
    return kept


def _width(column: Column, rows: tuple[Row, ...]) -> int:
    return max(len(column.title), *(len(column.cell(row)) for row in rows)) + _COLUMN_GAP


def _below_common_folder(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    folders = {os.path.dirname(row.artifact) for row in rows}
    if len(folders) != 1:
        return rows
    return tuple(replace(row, artifact=os.path.basename(row.artifact)) for row in rows)


def _artifact(row: Row) -> str:
    # Times are per inference, so a batch must not stand unmarked beside single images.
    batched = row.batch is not None and row.batch > 1
    return f"{row.artifact} (batch {row.batch})" if batched else row.artifact


def _number(value: float | None) -> str:
    """Three significant digits, or three decimals of what is smaller than 0.1."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:#.3g}" if value >= 0.1 else f"{value:.3f}"


def _percent(value: float) -> str:
    # 99.96 must not be rounded to a perfect score.
    return f"{value:.1f}" if value == 100 or value < 99.95 else f"{value:.2f}"


def _latency(row: Row) -> str:
    spread = row.latency_ms
    if spread is None:
        return "emulated" if row.emulated else ""
    # Too few runs for a median: say what it is instead.
    return _number(spread.p50) or f"{_number(spread.mean)} (mean of {spread.n})"


def _p90(row: Row) -> str:
    return "" if row.latency_ms is None else _number(row.latency_ms.p90)


def _middle(spread: Spread | None) -> str:
    return "" if spread is None else _number(spread.mean if spread.p50 is None else spread.p50)


def _top1(row: Row) -> str:
    return "" if row.accuracy is None else _percent(row.accuracy.top1)


def _top5(row: Row) -> str:
    return "" if row.accuracy is None else _percent(row.accuracy.top5)


def _lost(row: Row) -> str:
    """Top-1 lost against float32, and its interval."""
    compared = row.task_quality or row.vs_float
    if compared is None or compared.drop is None:
        return ""
    drop = compared.drop
    # Adding zero makes -0.0 positive.
    return f"{drop.points + 0.0:.1f} ({drop.low:.1f} to {drop.high:.1f})"


def _agreement(row: Row) -> str:
    return "" if row.vs_float is None else _percent(row.vs_float.agreement)


def _preparation(row: Row) -> str:
    return "" if row.preparation is None else _percent(row.preparation.agreement)


def _ratio(row: Row) -> str:
    return "" if row.ratio is None else f"{row.ratio.median:.2f}"


def _throughput(row: Row) -> str:
    return _number(max((found.images_per_second for found in row.throughput), default=None))


def _sqnr(row: Row) -> str:
    compared = row.task_quality or row.vs_float
    if compared is None:
        return ""
    return "equal" if compared.sqnr_db is None else f"{compared.sqnr_db:.1f}"


def _measure(title: str) -> Callable[[Row], str]:
    """The measure of that title, where the row has it."""

    def cell(row: Row) -> str:
        measures = () if row.task_quality is None else row.task_quality.measures
        return next((each.shown for each in measures if each.title == title), "")

    return cell


def _columns_of(rows: Sequence[Row]) -> tuple[Column, ...]:
    """The columns of all reports, and those of the rows' own measures behind the accuracy."""
    measures = (row.task_quality.measures for row in rows if row.task_quality)
    titles = dict.fromkeys(each.title for listed in measures for each in listed)
    own = [Column(title, _measure(title), 1 + at) for at, title in enumerate(titles)]
    return (*_COLUMNS[:_BEHIND_ACCURACY], *own, *_COLUMNS[_BEHIND_ACCURACY:])


_BEHIND_ACCURACY = 14
"""Where a task's own measures come to stand: behind top-1 and top-5."""

_COLUMNS = (
    Column("artefact", _artifact, 0, is_number=False),
    Column("target", lambda row: str(row.target), 0, is_number=False),
    Column("MB", lambda row: _number(row.size_mb), 1),
    Column("load ms", lambda row: _number(row.load_ms), 8),
    Column("first ms", lambda row: _number(row.first_run_ms), 10),
    Column("p50 ms", _latency, 0),
    Column("p90 ms", _p90, 6),
    Column("x fp32", _ratio, 3),
    Column("images/s", _throughput, 7),
    Column("prep ms", lambda row: _middle(row.preprocess_ms), 9),
    Column("peak MB", lambda row: _number(row.peak_rss_mb), 5),
    Column("mJ", lambda row: _number(row.energy_mj or row.battery_mj), 8),
    Column("top-1 %", _top1, 1),
    Column("top-5 %", _top5, 11),
    Column("lost %", _lost, 12),
    Column("agree %", _agreement, 2),
    Column("SQNR dB", _sqnr, 1),
    Column("own pixels agree %", _preparation, 4),
    Column("on device", lambda row: row.placed, 7),
    Column("status", lambda row: str(row.status), 0, is_number=False),
)
