"""The sentence that opens the page: which artefact, and how sure."""

from __future__ import annotations

from collections.abc import Sequence

from vitedge.report.results import Report, Row, Spread, Status
from vitedge.targets.precisions import Precision

_WENT_WELL = (Status.OK, Status.SLOWER)

# Issue and papers call an int8 ViT faithful from about here on.
_LEAST_AGREEMENT = 97.0


def summary(report: Report) -> str:
    """The pick's own words, or the fastest artefact that is right, compared with float32."""
    rows = report.rows
    if report.pick is not None:
        return report.pick.words
    ran = [row for row in rows if row.status in _WENT_WELL and latency_of(row)]
    if not ran:
        return f"None of {_count(len(rows), 'measurement')} gave a time that counts."
    faithful = [row for row in ran if _is_faithful(row)]
    if not faithful:
        best = max(ran, key=_kept)
        own = best.task_quality
        if own is not None:
            return (
                f"Every artefact loses over {100 - _LEAST_AGREEMENT:.0f} points of {own.drop_of}; "
                f"the nearest is {_name(best)} with {own.drop.points:.1f}."
            )
        return (
            f"No artefact agrees with float32 on {_LEAST_AGREEMENT:.0f} % of the images; the "
            f"nearest is {_name(best)} with {_kept(best):.1f} %."
        )
    best = min(faithful, key=_latency)
    sentences = [f"Fastest{_condition(best)}: {_name(best)} in {_latency(best):.3g} ms"]
    speed = _speed(best, rows)
    if speed:
        sentences.append(speed)
    sentences.append(f"{best.size_mb:.3g} MB")
    if best.accuracy is not None:
        sentences.append(f"top-1 {best.accuracy.top1:.1f} % of {best.accuracy.n}")
    if best.task_quality is not None:
        sentences += [
            f"{each.name} {each.shown} {each.unit}".strip() for each in best.task_quality.measures
        ]
    failed = sum(row.status not in _WENT_WELL for row in rows)
    ending = f" Of {_count(len(rows), 'measurement')}, {failed} did not go well." if failed else ""
    if best.unstable:
        ending += " The machine was not quiet, so measure again before relying on the times."
    return f"{', '.join(sentences)}.{ending}"


def latency_of(row: Row) -> float | None:
    """The median, or the mean of too few runs for one; None without times."""
    return None if row.latency_ms is None else middle_of(row.latency_ms)


def middle_of(spread: Spread) -> float:
    """The median of times, or the mean of too few for one."""
    return spread.mean if spread.p50 is None else spread.p50


def _latency(row: Row) -> float:
    found = latency_of(row)
    if found is None:
        raise ValueError(f"{_name(row)} was not timed")
    return found


def _is_faithful(row: Row) -> bool:
    return _kept(row) >= _LEAST_AGREEMENT


def _kept(row: Row) -> float:
    """Percent of agreement with float32, or what is left of a hundred points of another measure."""
    if row.task_quality is not None:
        return 100 - row.task_quality.drop.points
    return 100.0 if row.vs_float is None else row.vs_float.agreement


def _condition(row: Row) -> str:
    own = row.task_quality
    if own is not None:
        lost = f"{100 - _LEAST_AGREEMENT:.0f} points of {own.drop_of}"
        return f" of those that lose at most {lost} against float32"
    if row.vs_float is None:
        return ""
    return f" of those that agree with float32 on {_LEAST_AGREEMENT:.0f} % of the images"


def _speed(best: Row, rows: Sequence[Row]) -> str:
    """Compares it with float32, as far as that is sure."""
    ratio = best.ratio
    if ratio is not None:
        return (
            f"{1 / ratio.median:.2f} x as fast as {ratio.baseline} "
            f"({1 / ratio.high:.2f} to {1 / ratio.low:.2f})"
        )
    base = _float32_of(best, rows)
    if base is None or best.unstable or base.unstable:
        return ""
    return f"{_latency(base) / _latency(best):.2g} x as fast as its float32 self"


def _float32_of(row: Row, rows: Sequence[Row]) -> Row | None:
    if row.precision is Precision.FP32 or not row.source_sha256:
        return None
    for other in rows:
        is_base = other.precision is Precision.FP32 and latency_of(other) is not None
        if is_base and _kin(other) == _kin(row):
            return other
    return None


def _kin(row: Row) -> tuple[object, ...]:
    """A key that two artefacts of one model share where they run alike."""
    return row.source_sha256, row.format, row.target, row.batch


def _name(row: Row) -> str:
    return f"{row.artifact} on {row.target}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
