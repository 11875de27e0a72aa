"""Sets of images, labelled or not, read one at a time.

Nothing here holds a set in memory: an ``ImageSet`` knows names and labels, and each image is
decoded by whoever asks for it. The exceptions say so.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from vitedge.errors import DataError, missing_package
from vitedge.npz_arrays import read_arrays

if TYPE_CHECKING:
    from vitedge.preprocess import ImageLike, Preprocessing

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
LABELS_FILE = "labels.csv"

HELD_OUT_SHARE = 0.2
_SPLIT_SEED = 0


@dataclass(frozen=True)
class Sample:
    """One image of a set.

    Attributes:
        name: What to call it in a message or a report: its path within the set.
        image: What ``Preprocessing`` takes.
        label: Index of its class, or None.
    """

    name: str
    image: ImageLike
    label: int | None


@dataclass(frozen=True)
class ImageSet:
    """A set of images.

    Attributes:
        name: Name of the folder or file.
        samples: Its images, in a stable order.
        class_names: Names of the classes that labels index, or empty when unknown.
    """

    name: str
    samples: Sequence[Sample]
    class_names: tuple[str, ...] = ()


class ArraySamples(Sequence[Sample]):
    """Samples whose pixels lie in one array, possibly memory-mapped.

    Args:
        pixels: uint8 ``(N, H, W)`` or ``(N, H, W, C)``.
        labels: Integers ``(N,)``, or None.
    """

    def __init__(
        self, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer[Any]] | None
    ) -> None:
        self._pixels, self._labels = pixels, labels

    def __len__(self) -> int:
        return len(self._pixels)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> ArraySamples: ...
    def __getitem__(self, index: int | slice) -> Sample | ArraySamples:
        if isinstance(index, slice):
            labels = None if self._labels is None else self._labels[index]
            return ArraySamples(self._pixels[index], labels)
        label = None if self._labels is None else int(self._labels[index])
        return Sample(f"image {index % len(self)}", np.asarray(self._pixels[index]), label)


def open_images(path: str | Path, class_names: Sequence[str] = ()) -> ImageSet:
    """Opens a set of images in whichever form it comes.

    * a folder of one folder per class;
    * a folder with ``labels.csv``, or such a file itself: columns ``file`` (relative to the
      file's folder) and ``label`` (a class name or index);
    * a folder of images, or one image, without labels;
    * an ``.npz`` with ``images`` uint8 ``(N, H, W)`` or ``(N, H, W, C)`` and, optionally,
      ``labels`` integers ``(N,)`` and ``classes`` names. What NumPy saved uncompressed is
      memory-mapped; what it compressed is read whole.

    In a folder, files that are no images by their extension are ignored. No image is decoded.

    Args:
        path: The folder or file.
        class_names: The model's labels. When given, the set's classes are matched to them, by
            name or by index; when not, the set's own classes are numbered in order.

    Raises:
        DataError: The path is missing, holds no images, is unreadable, or names a class that the
            model does not have.
    """
    path = Path(path)
    try:
        if path.is_dir():
            found = _open_folder(path, tuple(class_names))
        elif not path.exists():
            raise DataError(f"there are no images '{path}'")
        elif path.suffix.lower() == ".csv":
            found = _open_labels(path, tuple(class_names))
        elif path.suffix.lower() == ".npz":
            found = _open_npz(path, tuple(class_names))
        elif _is_image(path):
            found = ImageSet(path.name, (Sample(path.name, str(path), None),), tuple(class_names))
        else:
            raise DataError(
                f"'{path}' is not a set of images: give a folder, a .csv, an .npz or an image"
            )
    except OSError as error:
        raise DataError(f"cannot read '{path}' ({error.strerror or error})") from error
    if not found.samples:
        raise DataError(f"'{path}' holds no images ({' '.join(IMAGE_SUFFIXES)})")
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _images_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if _is_image(path) and path.is_file())


def _open_folder(folder: Path, class_names: tuple[str, ...]) -> ImageSet:
    if (folder / LABELS_FILE).is_file():
        return _open_labels(folder / LABELS_FILE, class_names)
    loose = sorted(path for path in folder.iterdir() if _is_image(path) and path.is_file())
    below = {
        path.name: _images_below(path)
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith((".", "__"))
    }
    folders = {name: images for name, images in sorted(below.items()) if images}
    if loose and folders:
        raise DataError(
            f"'{folder}' holds both images ('{loose[0].name}') and folders of images "
            f"('{next(iter(folders))}'): keep one of the two"
        )
    if loose:
        samples = tuple(Sample(path.name, str(path), None) for path in loose)
        return ImageSet(folder.name, samples, class_names)
    names, index_of = _match_classes(folders, class_names, str(folder))
    samples = tuple(
        Sample(str(path.relative_to(folder)), str(path), index_of[name])
        for name in sorted(folders, key=index_of.__getitem__)
        for path in folders[name]
    )
    return ImageSet(folder.name, samples, names)


def _open_labels(path: Path, class_names: tuple[str, ...]) -> ImageSet:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if not {"file", "label"} <= set(reader.fieldnames or ()):
                raise DataError(f"the first line of '{path}' must be: file,label")
            rows = [(row["file"], (row["label"] or "").strip()) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"'{path}' is not a readable CSV file ({error})") from error
    for line, (file, label) in enumerate(rows, start=2):
        if not file or not label:
            raise DataError(f"line {line} of '{path}' lacks a file or a label")
        if not (path.parent / file).is_file():
            raise DataError(f"line {line} of '{path}' names '{file}', which is not there")
    labels = {label for _, label in rows}
    if not class_names and all(label.isdecimal() for label in labels):
        index_of = {label: int(label) for label in labels}
    else:
        class_names, index_of = _match_classes(labels, class_names, str(path))
    samples = tuple(Sample(file, str(path.parent / file), index_of[label]) for file, label in rows)
    return ImageSet(path.parent.resolve().name, samples, class_names)


def _match_classes(
    found: Iterable[str], class_names: tuple[str, ...], source: str
) -> tuple[tuple[str, ...], dict[str, int]]:
    """The names of all classes, and the index of each class found.

    A name of the model's wins over an index, so that folders ``0`` to ``9`` of a model whose
    labels are digits mean what they say. Upper and lower case are the same.

    Raises:
        DataError: The model has no such class, or two folders are the same class.
    """
    ordered = sorted(found, key=lambda name: (int(name) if name.isdecimal() else math.inf, name))
    if not class_names:
        return tuple(ordered), {name: index for index, name in enumerate(ordered)}
    by_name = {name.casefold(): index for index, name in reversed(list(enumerate(class_names)))}
    index_of: dict[str, int] = {}
    for name in ordered:
        index = by_name.get(name.casefold(), int(name) if name.isdecimal() else -1)
        if not 0 <= index < len(class_names):
            raise DataError(
                f"class '{name}' of '{source}' is not one of the model's {len(class_names)}: "
                f"{_excerpt(class_names)} (the data has {_excerpt(ordered)})"
            )
        index_of[name] = index
    return class_names, index_of


def _excerpt(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return f"{shown}, ..." if len(names) > most else shown


def _open_npz(path: Path, class_names: tuple[str, ...]) -> ImageSet:
    arrays = read_arrays(path, ("images", "labels", "classes"))
    images, labels = arrays.get("images"), arrays.get("labels")
    if images is None:
        raise DataError(f"'{path}' has no array 'images'")
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(
            f"'images' in '{path}' must be uint8 (N, H, W) or (N, H, W, C), "
            f"not {images.dtype} {images.shape}"
        )
    names = class_names or tuple(str(name) for name in arrays.get("classes", ()))
    if labels is not None:
        labels = checked_labels(labels.reshape(-1), len(images), names, path)
    return ImageSet(path.name, ArraySamples(images, labels), names)


def checked_labels(
    labels: npt.NDArray[Any], images: int, names: tuple[str, ...], path: Path
) -> npt.NDArray[np.integer[Any]]:
    """Labels ``(N,)`` that fit the images and the names, if there are any names.

    Raises:
        DataError: They do not.
    """
    if len(labels) != images:
        raise DataError(f"'{path}' has {len(labels)} labels for {images} images")
    if labels.dtype.kind not in "iu":
        raise DataError(f"'labels' in '{path}' must be integers, not {labels.dtype}")
    if images and (labels.min() < 0 or (names and labels.max() >= len(names))):
        raise DataError(
            f"'labels' in '{path}' run from {labels.min()} to {labels.max()}, but there are "
            f"{len(names)} classes: {_excerpt(names)}"
        )
    return labels


def digits() -> tuple[ImageSet, ImageSet]:
    """The 1,797 handwritten digits of scikit-learn: grey scans of 8 x 8 pixels, ten classes.

    Returns:
        The training set and the held-out set: a fifth of each class, the same at every call.

    Raises:
        UnavailableError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise missing_package("scikit-learn", "train") from error
    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    rng = np.random.default_rng(_SPLIT_SEED)
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held_out[members[: round(HELD_OUT_SHARE * len(members))]] = True
    names = tuple(str(name) for name in bunch.target_names)
    return (
        ImageSet("digits (training)", ArraySamples(pixels[~held_out], labels[~held_out]), names),
        ImageSet("digits (held out)", ArraySamples(pixels[held_out], labels[held_out]), names),
    )


# A std of 0.5 is the convention that scales pixels to -1..1; photos measure 0.22 to 0.28.
_LARGEST_MEASURED_STD = 0.28
# One colour direction carries 90 % of the variance of ImageNet's pixels (eigenvalues 0.2175,
# 0.0188, 0.0045: Krizhevsky et al., 2012, section 4.1, as published with fb.resnet.torch), which
# is a correlation of 0.855 between any two of three channels.
_COLOUR_CORRELATION = 0.855


def synthetic_images(preprocessing: Preprocessing, n: int, seed: int) -> ImageSet:
    """Noise with the statistics of natural images, to calibrate on when there are no images.

    The amplitude spectrum falls as 1/frequency (Field, 1987, doi:10.1364/JOSAA.4.002379), colour
    channels are correlated, and over the set each channel has the mean and standard deviation
    that the preprocessing states. Each image is ``(H, W, C)`` uint8 of the model's input size.
    The set is held in memory.
    """
    rng = np.random.default_rng(seed)
    height, width = preprocessing.size
    channels = preprocessing.channels
    noise = _pink_noise(rng, (n, channels, height, width))
    correlation = np.full((channels, channels), _COLOUR_CORRELATION)
    np.fill_diagonal(correlation, 1.0)
    mixed = np.einsum("cd,ndhw->nhwc", np.linalg.cholesky(correlation), noise)
    std = np.minimum(preprocessing.std, _LARGEST_MEASURED_STD)
    pixels = 255 * (mixed * std + np.asarray(preprocessing.mean))
    images = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
    return ImageSet("synthetic images", ArraySamples(images, None))


def _pink_noise(
    rng: np.random.Generator, shape: tuple[int, int, int, int]
) -> npt.NDArray[np.float64]:
    """Gaussian noise ``(N, C, H, W)`` with a 1/frequency amplitude and unit variance."""
    height, width = shape[2:]
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    frequency = np.hypot(rows, columns)
    # The constant component gets the lowest frequency's amplitude: brightness varies by image.
    frequency[0, 0] = 1 / max(height, width)
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) / frequency
    noise = np.fft.irfft2(spectrum, s=(height, width))
    power = np.fft.fft2(np.fft.irfft2(1 / frequency, s=(height, width)))
    return np.asarray(noise / np.sqrt((np.abs(power) ** 2).mean()))
