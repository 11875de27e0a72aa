"""A report as CSV, one line a row: for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from vitedge.report.results import Report, Row
from vitedge.terminal.printable import printable

_PLAIN = (
    *("artifact", "target", "format", "precision", "status", "message", "size_mb", "load_ms"),
    *("first_run_ms", "peak_rss_mb", "emulated", "batch", "threads", "source", "warm_up_runs"),
    *("unstable", "others_percent", "energy_mj", "battery_mj"),
)
# Columns are named `latency_ms.p50`; samples and lists of images stay in the JSON.
_NESTED = {
    "latency_ms": ("min", "p50", "p90", "p99", "mean", "n"),
    "preprocess_ms": ("p50", "mean", "n"),
    "postprocess_ms": ("p50", "mean", "n"),
    "accuracy": ("top1", "top5", "n", "top1_low", "top1_high"),
    "vs_float": ("agreement", "sqnr_db", "n", "flipped", "newly_wrong", "newly_right"),
    "vs_float.drop": ("points", "low", "high", "n"),
    "preparation": ("agreement", "largest_difference", "mean_difference", "n"),
    "placement": ("on_device", "total"),
    "ratio": ("baseline", "median", "low", "high", "n"),
}
# Excel and LibreOffice; the wide ones are what East Asian editions take for the same.
_FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")

_COLUMNS = (*_PLAIN, *(f"{group}.{name}" for group, names in _NESTED.items() for name in names))


def render_csv(report: Report) -> str:
    """CSV text with a header line; what is unknown is an empty cell."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    own = _own_columns(report.rows)
    writer.writerow([*_COLUMNS, *own])
    writer.writerows(
        [*(_cell(row, column) for column in _COLUMNS), *(_own_cell(row, column) for column in own)]
        for row in report.rows
    )
    return stream.getvalue()


def _own_columns(rows: Sequence[Row]) -> list[str]:
    """Columns of outputs that are not classes: ``task_quality.recall@1``; none in other reports."""
    found = [row.task_quality for row in rows if row.task_quality]
    names = dict.fromkeys(each.name for quality in found for each in quality.measures)
    fixed = ("task", "n", "sqnr_db", "drop.points", "drop_of") if found else ()
    return [f"task_quality.{name}" for name in (*fixed, *names)]


def _own_cell(row: Row, column: str) -> object:
    measures = () if row.task_quality is None else row.task_quality.measures
    for each in measures:
        if column == f"task_quality.{each.name}":
            return each.value
    is_measure = not hasattr(row.task_quality, column.split(".")[1])
    return None if is_measure else _cell(row, column)


def _cell(row: Row, column: str) -> object:
    value: object = row
    for name in column.split("."):
        if value is None:
            return None
        value = getattr(value, name)
    return _harmless(value) if isinstance(value, str) else value


def _harmless(text: str) -> str:
    """Text that a spreadsheet does not take for a formula (https://owasp.org/www-community/attacks/CSV_Injection)."""
    text = printable(text)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
