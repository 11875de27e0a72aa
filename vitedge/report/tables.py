"""The parts of the page that are text and tables."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

from vitedge.machine.environment import Environment
from vitedge.report.results import Report, Row
from vitedge.report.summary import latency_of, middle_of
from vitedge.terminal.printable import printable

Column = tuple[str, Callable[[Row], str]]

_MISSING = "–"
_STATUS = "Status"

_ENVIRONMENT = {
    "cpu": "CPU",
    "cores": "Logical processors",
    "governor": "Frequency governor",
    "max_frequency_mhz": "Highest frequency, MHz",
    "temperature_c": "Temperature before, °C",
    "memory_mb": "Memory, MB",
    "load_before": "Load before",
    "os": "System",
}


def escape(value: object) -> str:
    """Text that is safe in HTML, in elements and in quoted attributes."""
    return html.escape(printable(str(value)), quote=True)


def rows_tables(rows: Sequence[Row]) -> str:
    """Every row with its numbers, speed and accuracy apart: together they are too wide."""
    parts = []
    accuracy = (*_ACCURACY, *_own_measures(rows))
    for heading, columns in (("Speed and size", _SPEED), ("Accuracy", accuracy)):
        shown = [
            (title, cell) for title, cell in columns if any(cell(row) != _MISSING for row in rows)
        ]
        if shown:
            parts.append(f"<h2>{heading}</h2>{_table([*_NAMES, *shown], rows)}")
    return "".join(parts)


def _table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Each cell carries its column's name, for narrow screens."""
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title, _ in columns)
    body = "".join(
        f"<tr>{''.join(_row_cell(title, cell(row)) for title, cell in columns)}</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table class="rows"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _row_cell(title: str, text: str) -> str:
    shown = escape(text)
    if title == _STATUS:
        shown = f'<span class="status {shown}">{shown}</span>'
    kind = ' class="missing"' if text == _MISSING else ""
    return f'<td data-label="{escape(title)}"{kind}>{shown}</td>'


def about(report: Report) -> str:
    """The things that were compared, and the command."""
    lines = []
    if report.data is not None:
        lines.append(f"Images: {escape(report.data.name)}, {report.data.n}.")
    if report.reference:
        lines.append(f"Agreement, flips and SQNR are against {escape(report.reference)}.")
    text = f"<p>{' '.join(lines)}</p>" if lines else ""
    command = f"<pre><code>{escape(report.command)}</code></pre>" if report.command else ""
    return text + command


def messages(report: Report) -> str:
    """The facts that the numbers alone do not tell."""
    items = []
    for row in report.rows:
        name = f"<b>{escape(row.artifact)}</b> on {escape(row.target)}"
        if row.message:
            items.append(f"{name}: {escape(row.status)}: {escape(row.message)}")
        if row.unstable:
            items.append(f"{name}: the times are unstable: {escape(row.unstable)}")
    items += [escape(line) for line in report.environment.warnings]
    unreadable = () if report.data is None else report.data.unreadable
    items += [f"unreadable image: {escape(line)}" for line in unreadable]
    if not items:
        return ""
    listed = "".join(f"<li>{item}</li>" for item in items)
    return f"<section><h2>Remarks</h2><ul>{listed}</ul></section>"


def environment(machine: Environment) -> str:
    """The machine, without what it did not tell."""
    lines = []
    for key in (each.name for each in fields(machine)):
        value = getattr(machine, key)
        if value in (None, "", {}) or key == "warnings":
            continue
        name = _ENVIRONMENT.get(key, key.replace("_", " ").capitalize())
        lines.append(f"<dt>{escape(name)}</dt><dd>{escape(_in_words(value))}</dd>")
    return f"<dl>{''.join(lines)}</dl>"


def _in_words(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return f"{value:.0f}" if isinstance(value, float) and value >= 100 else f"{value}"


def number(value: float | None) -> str:
    """Three significant digits; a dash for what is not known."""
    if value is None:
        return _MISSING
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def latency(row: Row) -> str:
    """The median in words, or why there is none."""
    if row.emulated:
        return "emulated"
    spread = row.latency_ms
    mean = f" (mean of {spread.n})" if spread is not None and spread.p50 is None else ""
    return number(latency_of(row)) + mean


def _percent(group: str, name: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        found = getattr(row, group)
        return _MISSING if found is None else f"{getattr(found, name):.1f}"

    return cell


def _middle(step: str) -> Callable[[Row], str]:
    """The median of a step beside inference, or the mean of too few."""

    def cell(row: Row) -> str:
        spread = getattr(row, step)
        if spread is None:
            return _MISSING
        middle = middle_of(spread)
        return number(middle) if middle >= 0.1 else f"{middle:.3f}"

    return cell


def _spread(name: str) -> Callable[[Row], str]:
    return lambda row: number(None if row.latency_ms is None else getattr(row.latency_ms, name))


def _top1(row: Row) -> str:
    found = row.accuracy
    if found is None:
        return _MISSING
    return f"{found.top1:.1f} ({found.top1_low:.1f}–{found.top1_high:.1f})"


def _own_measures(rows: Sequence[Row]) -> list[Column]:
    """A column for each measure of outputs that are not classes."""
    found = (row.task_quality.measures for row in rows if row.task_quality)
    titles = dict.fromkeys(each.title for measures in found for each in measures)
    return [(title, _measure(title)) for title in titles]


def _measure(title: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        measures = () if row.task_quality is None else row.task_quality.measures
        return next((each.shown for each in measures if each.title == title), _MISSING)

    return cell


def _lost(row: Row) -> str:
    drop = None if row.vs_float is None else row.vs_float.drop
    if drop is None:
        return _MISSING
    # Adding zero makes -0.0 positive.
    return f"{drop.points + 0.0:.1f} ({drop.low:.1f} to {drop.high:.1f})"


def _points_lost(row: Row) -> str:
    """Points lost of a measure that is not top-1, whose name stands with them."""
    found = row.task_quality
    if found is None:
        return _MISSING
    drop = found.drop
    return f"{drop.points + 0.0:.1f} of {found.drop_of} ({drop.low:.1f} to {drop.high:.1f})"


def _sqnr(row: Row) -> str:
    found = row.task_quality or row.vs_float
    if found is None:
        return _MISSING
    return "equal" if found.sqnr_db is None else f"{found.sqnr_db:.1f}"


def _ratio(row: Row) -> str:
    found = row.ratio
    if found is None:
        return _MISSING
    return f"{found.median:.2f} ({found.low:.2f}–{found.high:.2f})"


def _throughput(row: Row) -> str:
    return number(max((found.images_per_second for found in row.throughput), default=None))


_NAMES: tuple[Column, ...] = (
    ("Artefact", lambda row: row.artifact),
    ("Target", lambda row: str(row.target)),
    (_STATUS, lambda row: str(row.status)),
)
_SPEED: tuple[Column, ...] = (
    ("Size MB", lambda row: number(row.size_mb)),
    ("Load ms", lambda row: number(row.load_ms)),
    ("First run ms", lambda row: number(row.first_run_ms)),
    ("Median ms", latency),
    ("p90 ms", _spread("p90")),
    ("p99 ms", _spread("p99")),
    ("Time / float32", _ratio),
    ("Preprocess ms", _middle("preprocess_ms")),
    ("Postprocess ms", _middle("postprocess_ms")),
    ("Images/s at best", _throughput),
    ("Peak memory MB", lambda row: number(row.peak_rss_mb)),
    ("Processor mJ", lambda row: number(row.energy_mj)),
    ("Battery mJ", lambda row: number(row.battery_mj)),
    ("Nodes on device", lambda row: row.placed or _MISSING),
)
_ACCURACY: tuple[Column, ...] = (
    ("Top-1 % (95 % interval)", _top1),
    ("Top-1 lost (95 % interval)", _lost),
    ("Top-5 %", _percent("accuracy", "top5")),
    ("Agreement %", _percent("vs_float", "agreement")),
    ("SQNR dB", _sqnr),
    ("Agreement on own pixels %", _percent("preparation", "agreement")),
    ("Points lost (95 % interval)", _points_lost),
)
