"""The parts of the page that are text and tables."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vitedge.report.summary import latency_of
from vitedge.terminal.printable import printable

Row = Mapping[str, Any]
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


def about(report: Mapping[str, Any]) -> str:
    """What was compared with what, and the command."""
    lines = []
    data, reference = report.get("data"), report.get("reference")
    if data:
        lines.append(f"Images: {escape(data['name'])}, {data['n']}.")
    if reference:
        lines.append(f"Agreement, flips and SQNR are against {escape(reference)}.")
    text = f"<p>{' '.join(lines)}</p>" if lines else ""
    command = report.get("command")
    return text + (f"<pre><code>{escape(command)}</code></pre>" if command else "")


def messages(report: Mapping[str, Any]) -> str:
    """What the numbers alone do not say."""
    items = []
    for row in report["rows"]:
        name = f"<b>{escape(row['artifact'])}</b> on {escape(row['target'])}"
        if row["message"]:
            items.append(f"{name}: {escape(row['status'])}: {escape(row['message'])}")
        if row.get("unstable"):
            items.append(f"{name}: the times are unstable: {escape(row['unstable'])}")
    items += [escape(line) for line in report["environment"].get("warnings", ())]
    unreadable = (report.get("data") or {}).get("unreadable", ())
    items += [f"unreadable image: {escape(line)}" for line in unreadable]
    if not items:
        return ""
    listed = "".join(f"<li>{item}</li>" for item in items)
    return f"<section><h2>To know</h2><ul>{listed}</ul></section>"


def environment(values: Mapping[str, Any]) -> str:
    """The machine, without what it did not tell."""
    lines = []
    for key, value in values.items():
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
    if row["emulated"]:
        return "emulated"
    few = row["latency_ms"] and row["latency_ms"]["p50"] is None
    mean = f" (mean of {row['latency_ms']['n']})" if few else ""
    return number(latency_of(row)) + mean


def _percent(group: str, name: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        found = row[group]
        return f"{found[name]:.1f}" if found else _MISSING

    return cell


def _middle(step: str) -> Callable[[Row], str]:
    """The median of a step beside inference, or the mean of too few."""

    def cell(row: Row) -> str:
        spread = row.get(step)
        if not spread:
            return _MISSING
        middle = spread["mean"] if spread["p50"] is None else spread["p50"]
        return number(middle) if middle >= 0.1 else f"{middle:.3f}"

    return cell


def _spread(name: str) -> Callable[[Row], str]:
    return lambda row: number(row["latency_ms"][name] if row["latency_ms"] else None)


def _top1(row: Row) -> str:
    found = row["accuracy"]
    if not found:
        return _MISSING
    interval = ""
    if "top1_low" in found:
        interval = f" ({found['top1_low']:.1f}–{found['top1_high']:.1f})"
    return f"{found['top1']:.1f}{interval}"


def _own_measures(rows: Sequence[Row]) -> list[Column]:
    """A column for each measure of outputs that are no classes."""
    titles: dict[str, None] = {}
    for row in rows:
        for each in (row.get("task_quality") or {}).get("measures", ()):
            titles[_measure_title(each)] = None
    return [(title, _measure(title)) for title in titles]


def _measure_title(measure: Mapping[str, Any]) -> str:
    return f"{measure['name']} {measure['unit']}".strip()


def _measure(title: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        measures = (row.get("task_quality") or {}).get("measures", ())
        found = (each["value"] for each in measures if _measure_title(each) == title)
        return next((f"{value:.4g}" for value in found), _MISSING)

    return cell


def _compared(row: Row) -> Mapping[str, Any] | None:
    return row.get("task_quality") or row["vs_float"] or None


def _lost(row: Row) -> str:
    drop = (row["vs_float"] or {}).get("drop")
    if not drop:
        return _MISSING
    # Adding zero makes -0.0 positive.
    return f"{drop['points'] + 0.0:.1f} ({drop['low']:.1f} to {drop['high']:.1f})"


def _points_lost(row: Row) -> str:
    """Points lost of a measure that is not top-1, whose name stands with them."""
    found = row.get("task_quality")
    if not found:
        return _MISSING
    drop = found["drop"]
    interval = f"{drop['low']:.1f} to {drop['high']:.1f}"
    return f"{drop['points'] + 0.0:.1f} of {found['drop_of']} ({interval})"


def _sqnr(row: Row) -> str:
    found = _compared(row)
    if not found:
        return _MISSING
    return "equal" if found["sqnr_db"] is None else f"{found['sqnr_db']:.1f}"


def _ratio(row: Row) -> str:
    found = row.get("ratio")
    if not found:
        return _MISSING
    return f"{found['median']:.2f} ({found['low']:.2f}–{found['high']:.2f})"


def _throughput(row: Row) -> str:
    rates = [found["images_per_second"] for found in row.get("throughput", ())]
    return number(max(rates, default=None))


def _placement(row: Row) -> str:
    found = row["placement"]
    return f"{found['on_device']}/{found['total']}" if found else _MISSING


_NAMES: tuple[Column, ...] = (
    ("Artefact", lambda row: str(row["artifact"])),
    ("Target", lambda row: str(row["target"])),
    (_STATUS, lambda row: str(row["status"])),
)
_SPEED: tuple[Column, ...] = (
    ("Size MB", lambda row: number(row["size_mb"])),
    ("Load ms", lambda row: number(row["load_ms"])),
    ("First run ms", lambda row: number(row["first_run_ms"])),
    ("Median ms", latency),
    ("p90 ms", _spread("p90")),
    ("p99 ms", _spread("p99")),
    ("Time / float32", _ratio),
    ("Preprocess ms", _middle("preprocess_ms")),
    ("Postprocess ms", _middle("postprocess_ms")),
    ("Images/s at best", _throughput),
    ("Peak memory MB", lambda row: number(row["peak_rss_mb"])),
    ("Processor mJ", lambda row: number(row.get("energy_mj"))),
    ("Battery mJ", lambda row: number(row.get("battery_mj"))),
    ("Nodes on device", _placement),
)
_ACCURACY: tuple[Column, ...] = (
    ("Top-1 % (95 % interval)", _top1),
    ("Top-1 lost (95 % interval)", _lost),
    ("Top-5 %", _percent("accuracy", "top5")),
    ("Agreement %", _percent("vs_float", "agreement")),
    ("SQNR dB", _sqnr),
    ("Points lost (95 % interval)", _points_lost),
)
