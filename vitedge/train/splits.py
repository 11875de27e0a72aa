"""Divides images into those to train on and those to measure on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import DataError
from vitedge.files.npz_arrays import read_arrays
from vitedge.images.cifar import Part, batches_in
from vitedge.images.class_matching import checked_labels
from vitedge.images.image_sets import ImageSet, digits, open_images
from vitedge.images.samples import ArraySamples, Sample, Samples, Selection
from vitedge.terminal.progress import Progress, silent
from vitedge.train.decodable import decodable
from vitedge.train.folder_level import (
    HELD_OUT_FOLDERS,
    refuse_other_part_names,
    refuse_unlabelled_part,
    refuse_wrong_level,
)

DIGITS = "digits"


@dataclass(frozen=True)
class Parts:
    """A set of images, divided.

    Attributes:
        training: The images to train on.
        held_out: The images to measure on.
        whole: All of them, where the source has no division itself.
    """

    training: ImageSet
    held_out: ImageSet
    whole: ImageSet | None = None

    def __str__(self) -> str:
        return self.training.name


def open_training_images(
    path: str | Path | ImageSet | Parts,
    *,
    share: float = 0.1,
    seed: int = 0,
    unlabelled: bool = False,
) -> tuple[ImageSet, ImageSet]:
    """The two parts that ``open_parts`` opens: to train on, and to measure on."""
    parts = open_parts(path, share=share, seed=seed, unlabelled=unlabelled)
    return parts.training, parts.held_out


def open_parts(
    path: str | Path | ImageSet | Parts,
    *,
    share: float = 0.1,
    seed: int = 0,
    unlabelled: bool = False,
    strict: bool = False,
    progress: Progress = silent,
) -> Parts:
    """Opens a labelled set as two: one to train on, one to measure on.

    * a set that is open already, or its parts;
    * ``digits``: the built-in handwritten digits;
    * a folder with ``train`` and ``validation`` (or ``valid``, ``val``, ``test``) inside, each
      with the same class folders;
    * the folder of CIFAR-10 or CIFAR-100 in binary form;
    * an ``.npz`` with ``x_train``, ``y_train``, ``x_test``, ``y_test`` (as Keras keeps MNIST and
      CIFAR), or with encoded images: ``train_jpeg`` bytes, ``train_offsets`` ``(N + 1,)``,
      ``train_labels``, the same of ``test``, and ``classes``;
    * whatever ``open_images`` opens, split by class at random.

    Args:
        path: The place of the images, or the images.
        share: The share of each class's images that is held out, if the source has no split itself.
        seed: The seed of that split.
        unlabelled: Images may have no label.
        strict: A file that cannot be decoded is an error, not left out.
        progress: Told how many files were looked at.

    Raises:
        DataError: The source cannot be read, has an image without a label to split by, or is a
            folder above or below the one that was meant.
    """
    if isinstance(path, Parts):
        return path
    if isinstance(path, ImageSet):
        return Parts(*split(path, share=share, seed=seed, unlabelled=unlabelled), path)
    path = Path(path)

    def checked(images: ImageSet, *, keep_classes: bool = False) -> ImageSet:
        return decodable(images, strict=strict, keep_classes=keep_classes, progress=progress)

    if str(path) == DIGITS and not path.exists():
        return Parts(*digits())
    for name in HELD_OUT_FOLDERS:
        if (path / "train").is_dir() and (path / name).is_dir():
            training = checked(open_images(path / "train"))
            held_out = open_images(path / name, training.class_names)
            refuse_unlabelled_part(held_out, path / name)
            return Parts(training, checked(held_out, keep_classes=True))
    if path.is_dir() and batches_in(path, Part.TRAINING):
        training = open_images(path, part=Part.TRAINING)
        return Parts(training, open_images(path, training.class_names, part=Part.HELD_OUT))
    if path.suffix.lower() == ".npz" and path.is_file():
        parts = _open_split_npz(path)
        if parts is not None:
            return Parts(*parts)
    refuse_other_part_names(path)
    images = open_images(path)
    if not unlabelled:
        refuse_wrong_level(images, path)
    images = checked(images)
    return Parts(*split(images, share=share, seed=seed, unlabelled=unlabelled), images)


def split(
    images: ImageSet, *, share: float, seed: int, unlabelled: bool = False
) -> tuple[ImageSet, ImageSet]:
    """Splits a set at random, by class; both parts keep its order.

    Args:
        images: A labelled set.
        share: The share of each class's images that goes into the second part; at least one, but
            never all.
        seed: The seed of the choice.
        unlabelled: Images without a label are taken for one more class.

    Raises:
        DataError: An image has no label.
    """
    labels = [sample.label for sample in images.samples]
    if None in labels and not unlabelled:
        name = images.samples[labels.index(None)].name
        raise DataError(f"'{name}' of '{images.name}' has no label to split by")
    rng = np.random.default_rng(seed)
    numbers = np.array([-1 if label is None else label for label in labels])
    held_out = np.zeros(len(numbers), bool)
    for label in np.unique(numbers):
        members = rng.permutation(np.flatnonzero(numbers == label))
        count = min(max(1, round(share * len(members))), len(members) - 1)
        held_out[members[:count]] = True
    return (
        _part(images, np.flatnonzero(~held_out), "training"),
        _part(images, np.flatnonzero(held_out), "held out"),
    )


def _part(images: ImageSet, indices: npt.NDArray[np.intp], name: str) -> ImageSet:
    samples = Selection(images.samples, indices)
    return ImageSet(f"{images.name} ({name})", samples, images.class_names, images.left_out)


def folds(images: ImageSet, count: int, *, seed: int) -> Iterator[tuple[ImageSet, ImageSet]]:
    """Divides a set so that each image is held out once: ``count`` pairs, as ``split`` makes one.

    Raises:
        DataError: An image has no label, or a part would be empty.
    """
    labels = [sample.label for sample in images.samples if sample.label is not None]
    if len(labels) < len(images.samples):
        raise DataError(f"'{images.name}' has images without labels, which no fold can measure")
    if count > len(labels):
        raise DataError(f"{len(labels)} images of '{images.name}' make no {count} folds")
    rng = np.random.default_rng(seed)
    # Class behind class, dealt out like cards: the parts of each class differ by one image at most.
    by_class = np.concatenate(
        [rng.permutation(np.flatnonzero(np.array(labels) == label)) for label in np.unique(labels)]
    )
    fold_of = np.empty(len(labels), np.intp)
    fold_of[by_class] = np.arange(len(labels)) % count
    for fold in range(count):
        name = f"fold {fold + 1} of {count}"
        yield (
            _part(images, np.flatnonzero(fold_of != fold), f"training, {name}"),
            _part(images, np.flatnonzero(fold_of == fold), name),
        )


class EncodedSamples(Samples):
    """Encoded images, one after another in one array of bytes.

    Args:
        data: uint8; image ``i`` is ``data[offsets[i]:offsets[i + 1]]``.
        offsets: Integers ``(N + 1,)``.
        labels: Integers ``(N,)``.
    """

    def __init__(
        self,
        data: npt.NDArray[np.uint8],
        offsets: npt.NDArray[np.integer[Any]],
        labels: npt.NDArray[np.integer[Any]],
    ) -> None:
        self._data, self._offsets, self._labels = data, offsets, labels

    def __len__(self) -> int:
        return len(self._labels)

    def at(self, position: int) -> Sample:
        """See ``Samples``."""
        start, end = int(self._offsets[position]), int(self._offsets[position + 1])
        return Sample(
            f"image {position}", self._data[start:end].tobytes(), int(self._labels[position])
        )


def _open_split_npz(path: Path) -> tuple[ImageSet, ImageSet] | None:
    """The two parts of a file that has them; None for a file that does not."""
    forms = {
        part: (f"x_{part}", f"y_{part}", f"{part}_jpeg", f"{part}_offsets", f"{part}_labels")
        for part in ("train", "test")
    }
    arrays = read_arrays(path, {"classes", *forms["train"], *forms["test"]})
    names = tuple(str(name) for name in arrays.get("classes", ()))
    parts = []
    for part, (pixels, targets, data, offsets, labels) in forms.items():
        samples: Sequence[Sample]
        if pixels in arrays and targets in arrays:
            fitting = checked_labels(arrays[targets].reshape(-1), len(arrays[pixels]), names, path)
            samples = ArraySamples(arrays[pixels], fitting)
        elif {data, offsets, labels} <= arrays.keys():
            fitting = checked_labels(arrays[labels], len(arrays[offsets]) - 1, names, path)
            samples = EncodedSamples(arrays[data], arrays[offsets], fitting)
        else:
            return None
        parts.append(ImageSet(f"{path.name} ({part})", samples, names))
    return parts[0], parts[1]
