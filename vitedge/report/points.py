"""Rows as points of a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from vitedge.report.results import Pick, Row
from vitedge.report.summary import latency_of
from vitedge.targets.formats import Format


class Measure(StrEnum):
    """The measure on the vertical axis of the front."""

    TASK_LOSS = "task loss"
    """Points won or lost against float32 of a measure that the task has instead of top-1."""
    TOP1_LOSS = "top-1 loss"
    """Points of top-1 won or lost against float32 on the same images."""
    TOP1 = "top-1"
    """Percent of the images; what is known where nothing was compared with float32."""
    AGREEMENT = "agreement"
    """Percent of the images on which float32 says the same; what is known without labels."""


@dataclass(frozen=True)
class Point:
    """One row that was timed.

    Attributes:
        label: Artefact and target.
        short: The name without the part that the names of all artefacts begin with.
        format: Format of the file.
        target: Runtime and device.
        precision: Precision, or ``?``.
        median_ms: Its latency.
        quality: The place on the vertical axis, higher is better; None without images.
        interval: The ends of the 95 % interval of ``quality``; None where there is none.
        size_mb: Size of the file.
        samples_ms: Its inferences, sorted.
        sustained: Minutes and median milliseconds of each window of a long run, in order.
        details: The texts of the tooltip, by name.
        measure: The measure of ``quality``.
        is_picked: Whether it is the one to ship.
        savings: The work that it leaves out, in words; empty where it does all.
    """

    DETAILS: ClassVar[tuple[str, ...]] = (
        *("latency", "size", "memory", "accuracy", "agreement", "tokens merged", "leaves out"),
        "verdict",
    )

    label: str
    short: str
    format: Format
    target: str
    precision: str
    median_ms: float
    quality: float | None
    interval: tuple[float, float] | None
    size_mb: float
    samples_ms: tuple[float, ...]
    sustained: tuple[tuple[float, float], ...]
    details: Mapping[str, str]
    measure: Measure
    is_picked: bool = False
    savings: str = ""

    def quantiles_ms(self, number: int) -> list[float]:
        """So many values from the fastest to the slowest, evenly by rank; fewer when there are."""
        samples = self.samples_ms or (self.median_ms,)
        if len(samples) <= number:
            return list(samples)
        last = len(samples) - 1
        return [samples[round(step * last / (number - 1))] for step in range(number)]


def timed_points(rows: Sequence[Row], pick: Pick | None = None) -> list[Point]:
    """A point for each row with times; all of them show the same measure of quality."""
    timed = [row for row in rows if latency_of(row) is not None]
    measure = _measure_of(timed)
    stem = _shared_stem([file_name(row.artifact) for row in timed])
    savings = {} if pick is None else {each.artifact: each.savings for each in pick.made_by}
    known = {file_name(path): words for path, words in savings.items()}
    return [
        _point(row, measure, stem, known.get(file_name(row.artifact), ""), pick) for row in timed
    ]


def front_of(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both latency and quality, the fastest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.median_ms, -(point.quality or 0.0))):
        is_better = not front or (point.quality or 0.0) > (front[-1].quality or 0.0)
        if point.quality is not None and is_better:
            front.append(point)
    return front


def quality_title(points: Sequence[Point]) -> str | None:
    """Name of the vertical axis; None when no point has a quality."""
    measured = [point for point in points if point.quality is not None]
    if not measured:
        return None
    match measured[0].measure:
        case Measure.TASK_LOSS:
            names = sorted({point.details["lost of"] for point in measured})
            return f"{' and '.join(names)} against float32, points"
        case Measure.TOP1_LOSS:
            return "Top-1 against float32, points"
        case Measure.TOP1:
            return "Top-1, %"
        case Measure.AGREEMENT:
            return "Agreement, %"


def shows_loss(points: Sequence[Point]) -> bool:
    """Whether the vertical axis has float32 at zero."""
    return any(point.measure in (Measure.TASK_LOSS, Measure.TOP1_LOSS) for point in points)


def label_of(point: Point, points: Sequence[Point]) -> str:
    """Its precision and savings, and its target where its format has several."""
    targets = {other.target for other in points if other.format == point.format}
    words = [point.precision, "" if len(targets) == 1 else point.target, point.savings]
    return " ".join(filter(None, words))


def file_name(artifact: str) -> str:
    """An artefact without its folder, whichever system wrote the report."""
    return artifact.replace("\\", "/").rsplit("/", 1)[-1]


def _is_picked(row: Row, pick: Pick | None) -> bool:
    if pick is None or pick.artifact is None or pick.target != str(row.target):
        return False
    return file_name(pick.artifact) == file_name(row.artifact)


def _shared_stem(names: Sequence[str]) -> str:
    """The common beginning of several names, before precision and format: ``model.``."""
    stems = {name.rsplit(".", 2)[0] + "." for name in names if name.count(".") >= 2}
    is_shared = len(stems) == 1 and len(set(names)) > 1
    return stems.pop() if is_shared else ""


def _measure_of(rows: Sequence[Row]) -> Measure:
    """The most telling measure that every row has; rows without images have none."""
    if any(row.task_quality is not None for row in rows):
        return Measure.TASK_LOSS
    if rows and all(row.vs_float is not None and row.vs_float.drop is not None for row in rows):
        return Measure.TOP1_LOSS
    if rows and all(row.accuracy is not None for row in rows):
        return Measure.TOP1
    return Measure.AGREEMENT


def _quality(row: Row, measure: Measure) -> tuple[float | None, tuple[float, float] | None]:
    """The place of a row on the vertical axis, and its interval."""
    accuracy, vs_float, own = row.accuracy, row.vs_float, row.task_quality
    drop = None
    match measure:
        case Measure.TASK_LOSS:
            drop = None if own is None else own.drop
        case Measure.TOP1_LOSS:
            drop = None if vs_float is None else vs_float.drop
        case Measure.TOP1 if accuracy is not None:
            return accuracy.top1, (accuracy.top1_low, accuracy.top1_high)
        case Measure.AGREEMENT if vs_float is not None:
            return vs_float.agreement, None
    if drop is None:
        return None, None
    # Adding zero makes -0.0 positive.
    return 0.0 - drop.points, (0.0 - drop.high, 0.0 - drop.low)


def _point(row: Row, measure: Measure, stem: str, savings: str, pick: Pick | None) -> Point:
    accuracy, vs_float = row.accuracy, row.vs_float
    quality, interval = _quality(row, measure)
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
        interval=interval,
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
            "removed": row.narrowing,
            "leaves out": savings,
            "verdict": str(row.status),
            **({"lost of": row.task_quality.drop_of} if row.task_quality else {}),
        },
        measure=measure,
        is_picked=_is_picked(row, pick),
        savings=savings,
    )
