"""Accuracy against labels, and agreement with the float32 reference, from stored logits."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitedge.bench.spread import paired_drop, wilson_interval
from vitedge.bench.true_maps import TrueMaps
from vitedge.bench.workers.logits import Logits
from vitedge.errors import DataError, ModelError
from vitedge.images.samples import Sample
from vitedge.report.quality import Accuracy, Confusion, Difference, VsFloat

# Logits of a large set lie on the disk; this many rows of them are in memory at a time.
_CHUNK_ROWS = 1024
_MOST_FLIPS = 24
_MOST_WORST = 5
_MOST_CONFUSIONS, _IMAGES_OF_A_CONFUSION = 12, 4


@dataclass(frozen=True, eq=False)
class Truth:
    """The known facts about each image of a set.

    Attributes:
        names: The name of each image.
        labels: Class index of each, int64 ``(n,)``; -1 where there is none.
        class_names: Name of each class, or empty.
        usable: Whether each image could be read, bool ``(n,)``.
        maps: Ground truth of their pixels, or None where no image has any.
    """

    names: Sequence[str]
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    usable: npt.NDArray[np.bool_]
    maps: TrueMaps | None = None

    @classmethod
    def of(cls, samples: Sequence[Sample], class_names: tuple[str, ...] = ()) -> Truth:
        """The facts that samples have, all of them usable."""
        labels = [-1 if sample.label is None else sample.label for sample in samples]
        files = [sample.truth for sample in samples]
        maps = TrueMaps(files, [sample.image for sample in samples]) if any(files) else None
        return cls(
            names=[sample.name for sample in samples],
            labels=np.asarray(labels, np.int64),
            class_names=class_names,
            usable=np.ones(len(labels), np.bool_),
            maps=maps,
        )

    def class_name(self, index: int) -> str:
        """The class's name, or its index where it has none."""
        return self.class_names[index] if index < len(self.class_names) else str(index)


def are_finite(logits: Logits) -> bool:
    """Whether there is no NaN and no infinity."""
    return all(np.isfinite(logits[rows]).all() for rows in _chunks(np.arange(logits.shape[0])))


def accuracy(logits: Logits, truth: Truth) -> Accuracy | None:
    """Top-1 and top-5; None when no usable image has a label.

    A label whose logit ties with others counts as ranked after them only where their index is
    lower, as ``argmax`` ranks them.

    Raises:
        DataError: A label is not a class of the model.
    """
    counted = np.flatnonzero(truth.usable & (truth.labels >= 0))
    if not len(counted):
        return None
    largest = int(truth.labels[counted].max())
    if largest >= logits.shape[1]:
        raise DataError(
            f"the data has class {truth.class_name(largest)} (index {largest}), "
            f"but the artefact has only {logits.shape[1]} classes"
        )
    right, fifth = np.zeros(len(truth.labels), np.bool_), 0
    for rows in _chunks(counted):
        ranks = _ranks_of(logits[rows], truth.labels[rows])
        right[rows] = ranks == 0
        fifth += int((ranks < 5).sum())
    n, first = len(counted), int(right.sum())
    bits = base64.b64encode(np.packbits(right).tobytes()).decode()
    return Accuracy(100 * first / n, 100 * fifth / n, n, *wilson_interval(first, n), bits)


def right_bits(encoded: str) -> npt.NDArray[np.bool_]:
    """``Accuracy.right`` as bool, up to seven more than the set has images; those are False.

    Raises:
        ValueError: ``encoded`` is not base64.
    """
    packed = np.frombuffer(base64.b64decode(encoded, validate=True), np.uint8)
    return np.unpackbits(packed).astype(np.bool_)


def versus_float(logits: Logits, reference: Logits, truth: Truth) -> VsFloat | None:
    """Agreement, SQNR and the images that differ; None when no image is usable.

    Raises:
        ModelError: The two have different numbers of classes.
    """
    if logits.shape != reference.shape:
        raise ModelError(
            f"the artefact has {logits.shape[1]} classes, the reference {reference.shape[1]}"
        )
    counted = np.flatnonzero(truth.usable)
    if not len(counted):
        return None
    n = len(counted)
    largest = np.zeros(n)
    tops = np.zeros((2, n), np.int64)
    signal = noise = 0.0
    for start, rows in zip(range(0, n, _CHUNK_ROWS), _chunks(counted), strict=True):
        ours, theirs = logits[rows].astype(np.float64), reference[rows].astype(np.float64)
        part = slice(start, start + len(rows))
        largest[part] = np.abs(ours - theirs).max(axis=1)
        tops[:, part] = theirs.argmax(axis=1), ours.argmax(axis=1)
        signal += float((theirs**2).sum())
        noise += float(((ours - theirs) ** 2).sum())
    labels = truth.labels[counted]
    labelled = int((labels >= 0).sum())
    right = (tops == labels) & (labels >= 0)
    newly_wrong, newly_right = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())

    def differences(which: npt.NDArray[np.intp], most: int) -> tuple[Difference, ...]:
        worst = which[np.argsort(-largest[which], kind="stable")][:most]
        return tuple(_difference(truth, int(counted[i]), tops[:, i], largest[i]) for i in worst)

    flipped = np.flatnonzero(tops[0] != tops[1])
    ordered = flipped[np.argsort(-largest[flipped], kind="stable")]
    return VsFloat(
        agreement=100 * (1 - len(flipped) / n),
        sqnr_db=_decibel(signal, noise),
        n=n,
        flips=differences(flipped, _MOST_FLIPS),
        flipped=len(flipped),
        newly_wrong=newly_wrong if labelled else None,
        newly_right=newly_right if labelled else None,
        worst=differences(np.arange(n), _MOST_WORST),
        drop=paired_drop(newly_wrong, newly_right, labelled) if labelled else None,
        confusions=_confusions(truth, counted[ordered], tops[:, ordered]),
    )


def _confusions(
    truth: Truth, positions: npt.NDArray[np.intp], tops: npt.NDArray[np.int64]
) -> tuple[Confusion, ...]:
    """Pairs of classes, the most frequent first; images in the order given."""
    pairs = [(int(theirs), int(ours)) for theirs, ours in tops.T]
    return tuple(
        Confusion(
            reference=truth.class_name(pair[0]),
            artifact=truth.class_name(pair[1]),
            n=n,
            images=tuple(
                truth.names[position]
                for position, found in zip(positions, pairs, strict=True)
                if found == pair
            )[:_IMAGES_OF_A_CONFUSION],
        )
        for pair, n in Counter(pairs).most_common(_MOST_CONFUSIONS)
    )


def _difference(
    truth: Truth, position: int, tops: npt.NDArray[np.int64], largest: float
) -> Difference:
    label = int(truth.labels[position])
    return Difference(
        image=truth.names[position],
        reference=truth.class_name(int(tops[0])),
        artifact=truth.class_name(int(tops[1])),
        label=truth.class_name(label) if label >= 0 else None,
        max_difference=float(largest),
    )


def _decibel(signal: float, noise: float) -> float | None:
    if noise == 0:
        return None
    # Logits that are all zero have no signal to speak of; a floor keeps the number finite.
    return 10 * math.log10(max(signal, np.finfo(np.float64).tiny) / noise)


def _ranks_of(
    logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The number of classes ranked before the label, int64 ``(n,)``."""
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    return np.asarray(((logits > own) | ((logits == own) & earlier)).sum(axis=1), np.int64)


def _chunks(rows: npt.NDArray[np.intp]) -> Iterator[npt.NDArray[np.intp]]:
    for start in range(0, len(rows), _CHUNK_ROWS):
        yield rows[start : start + _CHUNK_ROWS]
