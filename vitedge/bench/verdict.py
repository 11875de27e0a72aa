"""Verdicts in words: what a person has to know before shipping an artefact."""

from __future__ import annotations

from dataclasses import replace

from vitedge.report.results import Row, Status
from vitedge.targets.precisions import Precision, all_precisions

# Two equal artefacts measured one after the other differ by a few percent, and nobody ships another
# file for less.
_SLOWER_FACTOR = 1.05


def judge(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Gives each row that ran its status and message; failures keep theirs."""
    return tuple(_judged(row, rows) if row.status is Status.OK else row for row in rows)


def _judged(row: Row, rows: tuple[Row, ...]) -> Row:
    found = [
        (status, words)
        for status, words in (
            (Status.DRIFT, drift(row)),
            (Status.FALLBACK, _fallback(row)),
            (Status.SLOWER, _slowness(row, rows)),
        )
        if words
    ]
    if not found:
        return row
    words = [row.message, *(words for _, words in found)]
    return replace(row, status=found[0][0], message="; ".join(word for word in words if word))


def drift(row: Row) -> str:
    """The reason why the logits cannot be right on this target; empty when they can."""
    compared = row.task_quality or row.vs_float
    if compared is None or compared.sqnr_db is None:
        return ""
    if not compared.same_pixels:
        return ""  # who saw another picture may say something else
    found, name = compared.sqnr_db, row.precision or "any precision"
    # A file that does not state its precision, merges tokens or is narrower than its source is held
    # to the least of all.
    is_held = row.precision is not None and not (row.merges_tokens or row.narrowing)
    held_to = [row.precision] if row.precision and is_held else all_precisions()
    least = min(each.row.tolerance.drift_db for each in held_to)
    if found >= least:
        return ""
    what = "the logits" if row.task_quality is None else "the outputs"
    words = f"{what} differ by a noise {found:.1f} dB below them, and {name} should reach "
    return f"{words}{least:.0f} dB; {_what_agrees(row)}"


def _what_agrees(row: Row) -> str:
    if row.vs_float is not None:
        return f"{row.vs_float.agreement:.1f} % of top classes agree"
    measures = row.task_quality.measures if row.task_quality else ()
    return ", ".join(f"{each.name} {each.value:.4g} {each.unit}".strip() for each in measures)


def _fallback(row: Row) -> str:
    if row.placement is None or row.placement.on_device >= row.placement.total:
        return ""
    off = row.placement.total - row.placement.on_device
    return f"{off} of {row.placement.total} nodes ran elsewhere than on {row.target.device}"


def _slowness(row: Row, rows: tuple[Row, ...]) -> str:
    base = float32_of(row, rows)
    if base is None or base.latency_ms is None or row.latency_ms is None:
        return ""
    if row.ratio is not None and row.ratio.baseline == base.artifact:
        # Measured in turns: sure, where the interval excludes equality, and worth a word.
        ratio = row.ratio
        if ratio.low <= 1 or ratio.median <= _SLOWER_FACTOR:
            return ""
        slower = f"{ratio.median:.2f} x ({ratio.low:.2f} to {ratio.high:.2f}) the time of"
        return f"{slower} {base.artifact}"
    ours, theirs = row.latency_ms.p50, base.latency_ms.p50
    if ours is None or theirs is None:
        return ""
    # Where times jump about, only what lies clear of the other's spread is called slower.
    is_quiet = not row.unstable and not base.unstable
    limit = _SLOWER_FACTOR * theirs if is_quiet else base.latency_ms.p90 or 2 * theirs
    if ours <= limit:
        return ""
    return f"{ours / theirs:.2f} x the time of {base.artifact}"


def float32_of(row: Row, rows: tuple[Row, ...]) -> Row | None:
    """The row of the same model's float32 artefact in the same format on the same target."""
    if row.source_sha256 is None or row.precision is Precision.FP32:
        return None
    for other in rows:
        if other.precision is Precision.FP32 and (
            other.source_sha256,
            other.format,
            other.target,
            other.batch,
        ) == (row.source_sha256, row.format, row.target, row.batch):
            return other
    return None
