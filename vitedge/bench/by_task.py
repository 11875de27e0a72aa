"""Measures outputs other than classes: labels, numbers, embeddings and maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.bench.accuracy import Truth
from vitedge.bench.spread import mean_drop, paired_drop
from vitedge.bench.true_maps import quality_of_maps
from vitedge.bench.workers.logits import Logits
from vitedge.errors import ModelError
from vitedge.images.true_maps import Grid
from vitedge.network.tasks import Task
from vitedge.report.quality import Drop, TaskMeasure, TaskQuality

_CHUNK_ROWS = 256
_NEIGHBOURS = 5
_MOST_COMPARED = 10_000
"""Each embedding is compared with all others; of larger sets the first ones are."""

_LABELS, _FLOAT = "labels", "float32"
_TINY = 1e-30

Floats: TypeAlias = npt.NDArray[np.float64]


def quality_of(
    task: Task,
    made: Logits,
    reference: Logits,
    truth: Truth,
    *,
    middle: float = 0.0,
    grid: Grid | None = None,
) -> TaskQuality | None:
    """Measures outputs against the reference's, and against labels where there are any.

    Args:
        task: The meaning of the outputs, which is not classes or binary, since those have an
            accuracy.
        made: The artefact's, a row for each image; maps and tokens are laid out flat.
        reference: The float32 model's.
        truth: Names, labels, and which images count.
        middle: The score of a label that is as likely right as wrong.
        grid: The places of a map in an image; None compares with the reference alone.

    Returns:
        None where no image counts.

    Raises:
        ModelError: The two give different numbers.
        DataError: Ground truth of maps cannot be used.
    """
    if made.shape != reference.shape:
        raise ModelError(
            f"the artefact gives {made.shape[1]} numbers for each image, the reference "
            f"{reference.shape[1]}"
        )
    rows = np.flatnonzero(truth.usable)
    if not len(rows):
        return None
    measures, drop, drop_of = _MEASURES[task](made, reference, rows, truth, middle)
    if task is Task.MAP and truth.maps is not None and grid is not None:
        known = [row for row in rows.tolist() if truth.maps.files[row] is not None]
        if known:
            found, drop, drop_of = quality_of_maps(made, reference, known, truth.maps, grid)
            measures = (*found, *measures)
    return TaskQuality(
        str(task), len(rows), _sqnr_db(made, reference, rows), measures, drop, drop_of
    )


_Found: TypeAlias = tuple[tuple[TaskMeasure, ...], Drop, str]


def _of_labels(
    made: Logits, reference: Logits, rows: npt.NDArray[np.intp], truth: Truth, middle: float
) -> _Found:
    ours, theirs = _both(made, reference, rows)
    same = (ours > middle) == (theirs > middle)
    agreement = TaskMeasure("label agreement", 100 * float(same.mean()), "%", _FLOAT)
    labels = truth.labels[rows]
    if (labels >= 0).all() and labels.max() < ours.shape[1]:
        right = np.arange(ours.shape[1]) == labels[:, None]
        found, before = (100 * mean_average_precision(each, right) for each in (ours, theirs))
        precision = TaskMeasure("mAP", found, "%", _LABELS)
        of_float = TaskMeasure("mAP of float32", before, "%", _LABELS)
        half = 100 * 1.96 * float(same.mean(axis=1).std()) / math.sqrt(len(rows))
        lost = before - found
        drop = Drop(lost, lost - half, lost + half, len(rows))
        return (precision, of_float, agreement), drop, precision.name
    found = 100 * mean_average_precision(ours, theirs > middle)
    precision = TaskMeasure("mAP", found, "%", _FLOAT)
    return (precision, agreement), mean_drop(100 * (1 - same.mean(axis=1))), agreement.name


def mean_average_precision(scores: Floats, right: npt.NDArray[np.bool_]) -> float:
    """The mean over labels of the average precision of their ranking of images, 0..1.

    Labels that are right of no image have none and do not count; 1 where none counts.

    Args:
        scores: ``(images, labels)``.
        right: Whether each label is right for each image.
    """
    found = []
    for column in np.flatnonzero(right.any(axis=0)):
        ranked = right[np.argsort(-scores[:, column], kind="stable"), column]
        precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
        found.append(float(precision[ranked].mean()))
    return float(np.mean(found)) if found else 1.0


def _of_numbers(
    made: Logits, reference: Logits, rows: npt.NDArray[np.intp], truth: Truth, middle: float
) -> _Found:
    ours, theirs = _both(made, reference, rows)
    error = np.abs(ours - theirs)
    spread = np.maximum(((theirs - theirs.mean(axis=0)) ** 2).mean(axis=0), _TINY)
    left = ((ours - theirs) ** 2 / spread).mean(axis=1)
    determined = TaskMeasure("R²", 1 - float(left.mean()), "", _FLOAT)
    mean_error = TaskMeasure("mean absolute error", float(error.mean()), "", _FLOAT)
    return (determined, mean_error), mean_drop(100 * left), determined.name


def _of_embeddings(
    made: Logits, reference: Logits, rows: npt.NDArray[np.intp], truth: Truth, middle: float
) -> _Found:
    rows = rows[:_MOST_COMPARED]
    ours, theirs = (_units(each) for each in _both(made, reference, rows))
    n = len(rows)
    cosine = TaskMeasure("cosine", float((ours * theirs).sum(axis=1).mean()), "", _FLOAT)
    if n < 2:
        return (cosine,), mean_drop(100 * (1 - (ours * theirs).sum(axis=1))), cosine.name
    near, expected = nearest(ours, _NEIGHBOURS), nearest(theirs, _NEIGHBOURS)
    hits = near == expected[:, :1]
    recalls = [
        TaskMeasure(f"recall@{k}", 100 * float(hits[:, :k].any(axis=1).mean()), "%", _FLOAT)
        for k in (1, _NEIGHBOURS)
    ]
    labels = truth.labels[rows]
    if not (labels >= 0).all():
        missed = int((~hits[:, 0]).sum())
        return (cosine, *recalls), paired_drop(missed, 0, n), recalls[0].name
    right, before = (_voted(labels, each) == labels for each in (near, expected))
    share = TaskMeasure(f"{_NEIGHBOURS}-NN accuracy", 100 * float(right.mean()), "%", _LABELS)
    of_float = TaskMeasure(f"{share.name} of float32", 100 * float(before.mean()), "%", _LABELS)
    drop = paired_drop(int((before & ~right).sum()), int((right & ~before).sum()), n)
    return (cosine, *recalls, share, of_float), drop, share.name


def nearest(units: Floats, k: int) -> npt.NDArray[np.intp]:
    """The nearest others of each vector by cosine, ``(n, k)`` or all others where they are fewer.

    Args:
        units: Vectors of length 1, ``(n, width)``.
        k: The number of others to find.
    """
    n, found = len(units), []
    for start in range(0, n, _CHUNK_ROWS):
        alike = units[start : start + _CHUNK_ROWS] @ units.T
        own = np.arange(len(alike))
        alike[own, own + start] = -np.inf
        found.append(np.argsort(-alike, axis=1, kind="stable")[:, : min(k, n - 1)])
    return np.concatenate(found)


def _voted(labels: npt.NDArray[np.int64], near: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """The commonest label of each image's neighbours; of equally common ones the nearest's."""
    votes = labels[near]
    counts = (votes[:, :, None] == votes[:, None, :]).sum(axis=2)
    chosen = counts.argmax(axis=1)
    return np.asarray(votes[np.arange(len(votes)), chosen], np.int64)


def _of_maps(
    made: Logits, reference: Logits, rows: npt.NDArray[np.intp], truth: Truth, middle: float
) -> _Found:
    found = []
    for ours, theirs in _chunks(made, reference, rows):
        noise = np.linalg.norm(ours - theirs, axis=1)
        found.append(noise / np.maximum(np.linalg.norm(theirs, axis=1), _TINY))
    shares = 100 * np.concatenate(found)
    error = TaskMeasure("relative error", float(shares.mean()), "%", _FLOAT)
    return (error,), mean_drop(shares), error.name


_MEASURES: dict[Task, Callable[[Logits, Logits, npt.NDArray[np.intp], Truth, float], _Found]] = {
    Task.LABELS: _of_labels,
    Task.NUMBERS: _of_numbers,
    Task.EMBEDDING: _of_embeddings,
    Task.MAP: _of_maps,
}


def _sqnr_db(made: Logits, reference: Logits, rows: npt.NDArray[np.intp]) -> float | None:
    """Power of the reference over power of the difference, in decibel; None when equal."""
    signal = noise = 0.0
    for ours, theirs in _chunks(made, reference, rows):
        signal += float((theirs**2).sum())
        noise += float(((ours - theirs) ** 2).sum())
    return 10 * math.log10(max(signal, _TINY) / noise) if noise else None


def _units(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, _TINY), np.float64)


def _both(made: Logits, reference: Logits, rows: npt.NDArray[np.intp]) -> tuple[Floats, Floats]:
    return made[rows].astype(np.float64), reference[rows].astype(np.float64)


def _chunks(
    made: Logits, reference: Logits, rows: npt.NDArray[np.intp]
) -> Iterator[tuple[Floats, Floats]]:
    for start in range(0, len(rows), _CHUNK_ROWS):
        yield _both(made, reference, rows[start : start + _CHUNK_ROWS])
