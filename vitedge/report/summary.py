"""The sentence that opens the page: which artefact, and how sure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

# Issue and papers call an int8 ViT faithful from about here on.
_LEAST_AGREEMENT = 97.0


def summary(report: Mapping[str, Any]) -> str:
    """The pick's own words, or the fastest artefact that is right, compared with float32."""
    pick, rows = report.get("pick"), report["rows"]
    if pick:
        return str(pick["words"])
    ran = [row for row in rows if row["status"] in ("OK", "SLOWER") and latency_of(row)]
    if not ran:
        return f"None of {_count(len(rows), 'measurement')} gave a time that counts."
    faithful = [row for row in ran if _is_faithful(row)]
    if not faithful:
        best = max(ran, key=lambda row: _kept(row) or 0.0)
        own = best.get("task_quality")
        if own:
            return (
                f"Every artefact loses over {100 - _LEAST_AGREEMENT:.0f} points of "
                f"{own['drop_of']}; the nearest is {_name(best)} with {own['drop']['points']:.1f}."
            )
        return (
            f"No artefact agrees with float32 on {_LEAST_AGREEMENT:.0f} % of the images; the "
            f"nearest is {_name(best)} with {best['vs_float']['agreement']:.1f} %."
        )
    best = min(faithful, key=_latency)
    sentences = [f"Fastest{_condition(best)}: {_name(best)} in {_latency(best):.3g} ms"]
    speed = _speed(best, rows)
    if speed:
        sentences.append(speed)
    sentences.append(f"{best['size_mb']:.3g} MB")
    if best["accuracy"]:
        sentences.append(f"top-1 {best['accuracy']['top1']:.1f} % of {best['accuracy']['n']}")
    sentences += [
        f"{each['name']} {each['value']:.4g} {each['unit']}".strip()
        for each in (best.get("task_quality") or {}).get("measures", ())
    ]
    failed = sum(row["status"] not in ("OK", "SLOWER") for row in rows)
    ending = f" Of {_count(len(rows), 'measurement')}, {failed} did not go well." if failed else ""
    if best.get("unstable"):
        ending += " The machine was not quiet, so measure again before relying on the times."
    return f"{', '.join(sentences)}.{ending}"


def latency_of(row: Row) -> float | None:
    """The median, or the mean of too few runs for one; None without times."""
    spread = row["latency_ms"]
    if not spread:
        return None
    return float(spread["mean"] if spread["p50"] is None else spread["p50"])


def _latency(row: Row) -> float:
    found = latency_of(row)
    if found is None:
        raise ValueError(f"{_name(row)} was not timed")
    return found


def _is_faithful(row: Row) -> bool:
    kept = _kept(row)
    return kept is None or kept >= _LEAST_AGREEMENT


def _kept(row: Row) -> float | None:
    """Percent of agreement with float32, or what is left of a hundred points of another measure."""
    own = row.get("task_quality")
    if own:
        return 100 - float(own["drop"]["points"])
    return float(row["vs_float"]["agreement"]) if row["vs_float"] else None


def _condition(row: Row) -> str:
    own = row.get("task_quality")
    if own:
        lost = f"{100 - _LEAST_AGREEMENT:.0f} points of {own['drop_of']}"
        return f" of those that lose at most {lost} against float32"
    if not row["vs_float"]:
        return ""
    return f" of those that agree with float32 on {_LEAST_AGREEMENT:.0f} % of the images"


def _speed(best: Row, rows: Sequence[Row]) -> str:
    """How it compares with float32, as far as that is sure."""
    ratio = best.get("ratio")
    if ratio:
        return (
            f"{1 / ratio['median']:.2f} x as fast as {ratio['baseline']} "
            f"({1 / ratio['high']:.2f} to {1 / ratio['low']:.2f})"
        )
    base = _float32_of(best, rows)
    if base is None or best.get("unstable") or base.get("unstable"):
        return ""
    return f"{_latency(base) / _latency(best):.2g} x as fast as its float32 self"


def _float32_of(row: Row, rows: Sequence[Row]) -> Row | None:
    if row["precision"] == "fp32" or not row["source_sha256"]:
        return None
    same = ("source_sha256", "format", "target", "batch")
    for other in rows:
        is_base = other["precision"] == "fp32" and latency_of(other) is not None
        if is_base and all(other[key] == row[key] for key in same):
            return other
    return None


def _name(row: Row) -> str:
    return f"{row['artifact']} on {row['target']}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
