"""Images that lie in memory: arrays, ``tf.data`` sets and sequences of single images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.errors import DataError
from vitedge.images.class_matching import checked_labels
from vitedge.images.image_sets import ImageSet
from vitedge.images.preprocess import ImageLike
from vitedge.images.samples import ArraySamples, Sample

Images: TypeAlias = str | Path | ImageSet | npt.NDArray[Any] | tuple[Any, Any] | Iterable[Any]
"""Where a command takes a folder of images: a path, or images in memory.

* ``str`` or ``Path``: whatever ``--data`` and ``--calibration`` take;
* an array ``(N, H, W)`` or ``(N, H, W, C)``, or a tuple of images and labels, of which the labels
  are integers ``(N,)`` or one-hot ``(N, classes)``;
* a ``tf.data.Dataset`` of images or of ``(image, label)``, in batches or not;
* any other iterable of images (arrays, Pillow images, paths, encoded bytes).

Pixels are uint8, or floats that are proved to run from 0 to 255 because some are above 1.
"""


def images_in_memory(images: Any, class_names: Sequence[str] = ()) -> ImageSet:
    """A set of images that are not files.

    Args:
        images: The images in any form of ``Images``, except paths.
        class_names: Names of the classes that labels index. A ``tf.data`` set that Keras made of a
            folder brings its own.

    Raises:
        DataError: There are none, pixels may be in 0..1, or labels do not fit.
    """
    if isinstance(images, ImageSet):
        return images
    names = tuple(class_names)
    if isinstance(images, np.ndarray):
        return _set("images in memory", _pixels(images), None, names)
    if isinstance(images, tuple) and len(images) == 2 and _is_array(images[0]):
        pixels, labels = np.asarray(images[0]), np.asarray(images[1])
        return _set("images in memory", _pixels(pixels), _indices(labels), names)
    if hasattr(images, "as_numpy_iterator") and hasattr(images, "element_spec"):
        own = tuple(str(name) for name in getattr(images, "class_names", None) or ())
        return _of_dataset(images, names or own)
    if not isinstance(images, Iterable):
        raise DataError(
            f"images are a path, an array, a tf.data.Dataset or a sequence of images, not "
            f"{type(images).__name__}"
        )
    return _of_sequence(images, names)


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__") and np.ndim(value) >= 3


def _set(
    name: str,
    pixels: npt.NDArray[np.uint8],
    labels: npt.NDArray[Any] | None,
    names: tuple[str, ...],
) -> ImageSet:
    if not len(pixels):
        raise DataError(f"'{name}' holds no images")
    if pixels.ndim not in (3, 4):
        raise DataError(f"'{name}' must be (N, H, W) or (N, H, W, C), not {pixels.shape}")
    if labels is not None:
        labels = checked_labels(labels, len(pixels), names, Path(name))
    return ImageSet(name, ArraySamples(pixels, labels), names)


def _pixels(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Pixels as uint8.

    Raises:
        DataError: The pixels are floats that may be in 0..1, or are not pixels at all.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "iuf" or not values.size:
        raise DataError(f"pixels are uint8 0..255, not {values.dtype} {values.shape}")
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 255):
        raise DataError(f"pixels must be 0..255, but these run from {low:g} to {high:g}")
    if high <= 1 and values.dtype.kind == "f":
        raise DataError(
            f"pixels must be 0..255, but these run from {low:g} to {high:g}: multiply them by 255"
        )
    return np.round(values).astype(np.uint8)


def _indices(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Labels ``(N,)`` from indices or from one-hot rows.

    Raises:
        DataError: A row names no class, or several.
    """
    if labels.ndim != 2 or labels.shape[1] == 1:
        return labels.reshape(-1)
    one_hot = ((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all()
    if not one_hot:
        raise DataError(f"labels are indices (N,) or one-hot rows, not {labels.shape} of others")
    return np.asarray(labels.argmax(axis=1))


def _of_dataset(dataset: Any, names: tuple[str, ...]) -> ImageSet:
    images: list[npt.NDArray[Any]] = []
    labels: list[npt.NDArray[Any]] = []
    for element in dataset.as_numpy_iterator():
        image, label = element if isinstance(element, tuple) else (element, None)
        batched = np.ndim(image) == 4
        images += list(image) if batched else [image]
        if label is not None:
            labels.append(_indices(np.asarray(label) if batched else np.asarray(label)[None]))
    if not images:
        raise DataError("the tf.data.Dataset holds no images")
    found = np.concatenate(labels) if labels else None
    if len({image.shape for image in images}) == 1:
        return _set("the tf.data.Dataset", _pixels(np.stack(images)), found, names)
    if found is not None:
        found = checked_labels(found, len(images), names, Path("the tf.data.Dataset"))
    known: Iterator[int | None] = iter([None] * len(images) if found is None else found.tolist())
    samples = [
        Sample(f"image {number}", _pixels(image), next(known))
        for number, image in enumerate(images)
    ]
    return ImageSet("the tf.data.Dataset", samples, names)


def _of_sequence(images: Iterable[ImageLike], names: tuple[str, ...]) -> ImageSet:
    samples = [
        Sample(
            str(image) if isinstance(image, str | Path) else f"image {number}",
            _pixels(image) if isinstance(image, np.ndarray) else image,
            None,
        )
        for number, image in enumerate(images)
    ]
    if not samples:
        raise DataError("there are no images")
    return ImageSet("images in memory", samples, names)
