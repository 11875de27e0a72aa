"""Ground truth of maps: the class, or the number, of each pixel of an image.

* A ``.png`` of one channel of 8 bits, or an ``.npy`` of integers, holds class indices; 255 and
  negative ones are pixels that nobody labelled.
* An ``.npy`` of floats holds numbers such as depths, in the model's own unit; what is not finite or
  not above zero is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import DataError, first_line
from vitedge.images.pictures import open_image
from vitedge.images.preprocess import ImageLike, Preprocessing

UNLABELLED = 255
"""The class index of a pixel that nobody labelled, as data sets of segmentation have it."""


@dataclass(frozen=True)
class Grid:
    """The places of a model's map in an image.

    Attributes:
        preprocessing: The steps from the image to the model's pixels.
        shape: The shape of one map: ``(rows, columns)`` or ``(rows, columns, channels)``.
    """

    preprocessing: Preprocessing
    shape: tuple[int, ...]

    @property
    def channels(self) -> int:
        """The count of numbers at each place."""
        return self.shape[2] if len(self.shape) == 3 else 1

    def over(self, truth: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The truth at each place, ``(rows, columns)``: of the pixel at its centre.

        Args:
            truth: ``(height, width)``, of the image's size.
        """
        top, left, height, width = self.preprocessing.seen((truth.shape[0], truth.shape[1]))
        rows, columns = (
            first + ((np.arange(count) + 0.5) * size / count).astype(np.intp)
            for first, size, count in ((top, height, self.shape[0]), (left, width, self.shape[1]))
        )
        return np.asarray(truth[np.ix_(rows, columns)])


def read_true_map(path: Path, image: ImageLike) -> npt.NDArray[Any]:
    """The ground truth of an image, ``(height, width)`` as the image is seen upright.

    Returns:
        int64 class indices, -1 where there is none; or float64 numbers, NaN where there is none.

    Raises:
        DataError: The file is missing, damaged or of another kind, or has not the image's size.
    """
    found = _array(path) if path.suffix.lower() == ".npy" else _indices(path)
    if found.ndim != 2 or found.dtype.kind not in "iuf":
        raise DataError(
            f"'{path}' holds {found.dtype} {found.shape}; ground truth is (height, width) of "
            "integers for classes, or of floats for numbers"
        )
    width, height = open_image(image).size
    if found.shape != (height, width):
        raise DataError(
            f"'{path}' is {found.shape[1]} x {found.shape[0]}, and its image {width} x {height}"
        )
    if found.dtype.kind == "f":
        numbers = found.astype(np.float64)
        return np.where(np.isfinite(numbers) & (numbers > 0), numbers, np.nan)
    classes = found.astype(np.int64)
    return np.where((classes < 0) | (classes == UNLABELLED), -1, classes)


def _array(path: Path) -> npt.NDArray[Any]:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot read '{path}' ({first_line(error)})") from error


def _indices(path: Path) -> npt.NDArray[Any]:
    from PIL import Image

    if path.suffix.lower() != ".png":
        raise DataError(f"'{path}' is not ground truth: give a .png of class indices, or an .npy")
    try:
        with Image.open(path, formats=("PNG",)) as header:
            mode = header.mode
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"cannot read '{path}' ({first_line(error)})") from error
    if mode not in ("L", "P"):
        raise DataError(
            f"'{path}' is a PNG of mode {mode}; class indices have one channel of 8 bits, and "
            "others go into an .npy of integers"
        )
    return np.asarray(open_image(path))
