"""Rows as points of a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from vitedge.report.results import Pick, Row
from vitedge.report.summary import latency_of
from vitedge.targets.formats import Format

# Room that a label takes, as a share of the chart's width and height on a phone.
_LABEL_WIDTH, _LABEL_HEIGHT = 0.12, 0.08


@dataclass(frozen=True)
class Point:
    """One row that was timed.

    Attributes:
        label: Artefact and target.
        short: The same without what the names of all artefacts begin with.
        format: Format of the file.
        target: Runtime and device.
        precision: Precision, or ``?``.
        median_ms: Its latency.
        quality: Percent on the vertical axis, or None.
        size_mb: Size of the file.
        samples_ms: Its inferences, sorted.
        sustained: Minutes and median milliseconds of each window of a long run, in order.
        details: What a tooltip shows, by name.
        is_picked: Whether it is the one to ship.
    """

    DETAILS: ClassVar[tuple[str, ...]] = (
        *("latency", "size", "memory", "accuracy", "agreement", "tokens merged", "verdict"),
    )

    label: str
    short: str
    format: Format
    target: str
    precision: str
    median_ms: float
    quality: float | None
    size_mb: float
    samples_ms: tuple[float, ...]
    sustained: tuple[tuple[float, float], ...]
    details: Mapping[str, str]
    is_picked: bool = False

    def quantiles_ms(self, number: int) -> list[float]:
        """So many values from the fastest to the slowest, evenly by rank; fewer when there are."""
        samples = self.samples_ms or (self.median_ms,)
        if len(samples) <= number:
            return list(samples)
        last = len(samples) - 1
        return [samples[round(step * last / (number - 1))] for step in range(number)]


def timed_points(rows: Sequence[Row], pick: Pick | None = None) -> list[Point]:
    """A point for each row with times; quality is top-1 where all have it, else agreement."""
    timed = [row for row in rows if latency_of(row) is not None]
    has_accuracy = bool(timed) and all(row.accuracy is not None for row in timed)
    stem = _shared_stem([file_name(row.artifact) for row in timed])
    return [
        replace(_point(row, has_accuracy, stem), is_picked=_is_picked(row, pick)) for row in timed
    ]


def front_of(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both latency and quality, the fastest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.median_ms, -(point.quality or 0.0))):
        is_better = not front or (point.quality or 0.0) > (front[-1].quality or 0.0)
        if point.quality is not None and is_better:
            front.append(point)
    return front


def labelled(points: Sequence[Point]) -> tuple[list[Point], list[Point]]:
    """Points whose label fits above them, and those whose label must go below.

    A point close to another of the same precision needs none of its own.
    """
    shown = [point for point in points if point.quality is not None]
    wide = max((point.median_ms for point in shown), default=0.0)
    qualities = [point.quality or 0.0 for point in shown]
    tall = max(qualities, default=0.0) - min(qualities, default=0.0)

    def is_near(one: Point, other: Point) -> bool:
        apart = abs((one.quality or 0.0) - (other.quality or 0.0))
        return (
            abs(one.median_ms - other.median_ms) < _LABEL_WIDTH * wide
            and apart <= _LABEL_HEIGHT * tall
        )

    above: list[Point] = []
    below: list[Point] = []
    for point in shown:
        near = [other for other in (*above, *below) if is_near(point, other)]
        if any(other.precision == point.precision for other in near):
            continue
        (below if any(other in above for other in near) else above).append(point)
    return above, below


def quality_title(points: Sequence[Point]) -> str | None:
    """Name of the vertical axis; None when no point has a quality."""
    if all(point.quality is None for point in points):
        return None
    own = {point.details.get("lost of", "") for point in points}
    if own != {""}:
        return f"100 less the points lost of {' and '.join(sorted(own - {''}))}"
    return "Top-1, %" if all(point.details["accuracy"] for point in points) else "Agreement, %"


def file_name(artifact: str) -> str:
    """An artefact without its folder, whichever system wrote the report."""
    return artifact.replace("\\", "/").rsplit("/", 1)[-1]


def _is_picked(row: Row, pick: Pick | None) -> bool:
    if pick is None or pick.artifact is None or pick.target != str(row.target):
        return False
    return file_name(pick.artifact) == file_name(row.artifact)


def _shared_stem(names: Sequence[str]) -> str:
    """What all of several names begin with, before precision and format: ``model.``."""
    stems = {name.rsplit(".", 2)[0] + "." for name in names if name.count(".") >= 2}
    is_shared = len(stems) == 1 and len(set(names)) > 1
    return stems.pop() if is_shared else ""


def _point(row: Row, has_accuracy: bool, stem: str) -> Point:
    accuracy, vs_float = row.accuracy, row.vs_float
    quality = None
    if has_accuracy and accuracy is not None:
        quality = accuracy.top1
    elif vs_float is not None:
        quality = vs_float.agreement
    if row.task_quality is not None:
        quality = 100 - row.task_quality.drop.points
    median = latency_of(row) or 0.0
    name = file_name(row.artifact)
    return Point(
        label=f"{name}, {row.target}",
        short=f"{name.removeprefix(stem)}, {row.target}",
        format=row.format,
        target=str(row.target),
        precision=str(row.precision or "?"),
        median_ms=median,
        quality=quality,
        size_mb=row.size_mb,
        samples_ms=tuple(sorted(row.samples_ms)),
        sustained=tuple((window.minute, window.median_ms) for window in row.sustained),
        details={
            "latency": f"{median:#.3g} ms",
            "size": f"{row.size_mb:#.3g} MB",
            "memory": f"{row.peak_rss_mb:.0f} MB" if row.peak_rss_mb else "",
            "accuracy": f"{accuracy.top1:.1f} % of {accuracy.n}" if accuracy else "",
            "agreement": f"{vs_float.agreement:.1f} % of {vs_float.n}" if vs_float else "",
            "tokens merged": row.merging,
            "verdict": str(row.status),
            **({"lost of": row.task_quality.drop_of} if row.task_quality else {}),
        },
    )
