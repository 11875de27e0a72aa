"""Measures maps against ground truth: mean IoU of classes, delta-1 of depths and other numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.bench.spread import mean_drop
from vitedge.bench.workers.logits import Logits
from vitedge.errors import DataError
from vitedge.images.preprocess import ImageLike
from vitedge.images.true_maps import Grid, read_true_map
from vitedge.report.quality import Drop, TaskMeasure

_Pairs: TypeAlias = Iterator[
    tuple[npt.NDArray[Any], tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]
]
"""Of each image what is true at each place, and both maps ``(places, channels)``."""

_LABELS = "labels"

# A depth is right within a quarter (Eigen, Puhrsch and Fergus, 2014, arXiv:1406.2283).
_DELTA = 1.25

_NORMAL_975 = 1.959964


@dataclass(frozen=True, eq=False)
class TrueMaps:
    """The ground truth of each image of a set.

    Attributes:
        files: The path of each; None for an image that has none.
        images: The images themselves, which have the same size.
    """

    files: Sequence[str | None]
    images: Sequence[ImageLike]

    def at(self, row: int) -> npt.NDArray[Any]:
        """That of one image that has some; see ``read_true_map``."""
        return read_true_map(Path(str(self.files[row])), self.images[row])


def quality_of_maps(
    made: Logits, reference: Logits, rows: Sequence[int], truth: TrueMaps, grid: Grid
) -> tuple[tuple[TaskMeasure, ...], Drop, str]:
    """Measures, points lost against the reference, and the name of the measure they are of.

    Classes are the largest of a map's channels, at the map's own places. A map of one channel is
    compared as it is, and once more behind the scale and the offset that fit it to each image best,
    because many depth models give no more than that; the points are of the one that loses more.

    Args:
        made: The artefact's maps, a row for each image, laid out flat.
        reference: The float32 model's.
        rows: Images that have ground truth.
        truth: The ground truth.
        grid: The maps' places in an image.

    Raises:
        DataError: Ground truth cannot be read, or is of classes where the map has one channel, or
            of numbers where it has several.
    """
    first = truth.at(rows[0])
    of_classes = first.dtype.kind == "i"
    if of_classes != (grid.channels > 1):
        holds = "classes" if of_classes else "numbers"
        raise DataError(
            f"'{truth.files[rows[0]]}' holds {holds}, and the map has {grid.channels} "
            f"channel{'s' if grid.channels > 1 else ''}: classes need several, numbers one"
        )
    pairs = _pairs(made, reference, rows, truth, grid, first.dtype.kind)
    return _of_classes(pairs, grid.channels) if of_classes else _of_numbers(pairs)


def _pairs(
    made: Logits,
    reference: Logits,
    rows: Sequence[int],
    truth: TrueMaps,
    grid: Grid,
    kind: str,
) -> _Pairs:
    for row in rows:
        whole = truth.at(row)
        if whole.dtype.kind != kind:
            raise DataError(f"'{truth.files[row]}' holds another kind of ground truth than others")
        expected = grid.over(whole).reshape(-1)
        ours, theirs = (
            each[np.asarray([row])].reshape(len(expected), grid.channels)
            for each in (made, reference)
        )
        yield expected, (ours, theirs)


def _of_classes(pairs: _Pairs, classes: int) -> tuple[tuple[TaskMeasure, ...], Drop, str]:
    totals = [np.zeros((classes, classes), np.int64) for _ in range(2)]
    lost = []
    for expected, maps in pairs:
        known = expected >= 0
        if known.any() and (largest := int(expected[known].max())) >= classes:
            raise DataError(f"ground truth has class {largest}, and the map {classes} channels")
        found = [_confusion(expected[known], each[known].argmax(axis=1), classes) for each in maps]
        totals = [total + own for total, own in zip(totals, found, strict=True)]
        if known.any():
            now, before = (mean_iou(each) for each in found)
            lost.append(before - now)
    if not lost:
        raise DataError("no pixel that the model sees is labelled")
    now, before = (100 * mean_iou(each) for each in totals)
    spread = float(np.std(lost, ddof=1)) if len(lost) > 1 else 0.0
    half = 100 * _NORMAL_975 * spread / math.sqrt(len(lost))
    measures = (
        TaskMeasure("mean IoU", now, "%", _LABELS),
        TaskMeasure("mean IoU of float32", before, "%", _LABELS),
    )
    points = before - now
    return measures, Drop(points, points - half, points + half, len(lost)), "mean IoU"


def _confusion(
    expected: npt.NDArray[np.int64], found: npt.NDArray[np.intp], classes: int
) -> npt.NDArray[np.int64]:
    """The count of places of each class, a row each, that were taken for each class."""
    counts = np.bincount(expected * classes + found, minlength=classes * classes)
    return np.asarray(counts.reshape(classes, classes), np.int64)


def mean_iou(confusion: npt.NDArray[np.int64]) -> float:
    """The mean, over classes that are there or were named, of intersection over union, 0..1.

    Args:
        confusion: Places of each true class, a row each, taken for each class.
    """
    right = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - right
    counted = union > 0
    return float((right[counted] / union[counted]).mean()) if counted.any() else 1.0


def _of_numbers(pairs: _Pairs) -> tuple[tuple[TaskMeasure, ...], Drop, str]:
    shares: list[list[float]] = []
    for expected, maps in pairs:
        known = np.isfinite(expected)
        if not known.any():
            continue
        numbers = expected[known]
        found = [each[known, 0].astype(np.float64) for each in maps]
        shares.append(
            [100 * delta_1(each, numbers) for each in found]
            + [100 * delta_1(fitted(each, numbers), numbers) for each in found]
        )
    if not shares:
        raise DataError("no pixel that the model sees has a known number")
    table = np.asarray(shares)
    names = ("delta-1", "delta-1 of float32", "delta-1 fitted", "delta-1 fitted of float32")
    measures = tuple(
        TaskMeasure(name, float(value), "%", _LABELS)
        for name, value in zip(names, table.mean(axis=0), strict=True)
    )
    drops = {names[at]: mean_drop(table[:, at + 1] - table[:, at]) for at in (0, 2)}
    worst = max(drops, key=lambda name: drops[name].points)
    return measures, drops[worst], worst


def delta_1(found: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]) -> float:
    """The share of places where the larger of both numbers is under 1.25 times the smaller."""
    right = (found > 0) & (found < _DELTA * expected) & (expected < _DELTA * found)
    return float(right.mean())


def fitted(
    found: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The numbers behind the scale and the offset of least squared error."""
    centred = found - found.mean()
    power = float(np.square(centred).sum())
    scale = float(centred @ expected) / power if power else 0.0
    return np.asarray(scale * centred + expected.mean(), np.float64)
