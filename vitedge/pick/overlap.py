"""Whether an artefact would be measured on images that it was calibrated on."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from vitedge.data import ImageSet
from vitedge.errors import DataError
from vitedge.preprocess import ImageLike, open_image

_SHOWN = 3


def refuse_overlap(calibration: ImageSet, evaluation: ImageSet) -> None:
    """Refuses to measure on images that ranges are fitted to: their accuracy flatters.

    Images count as the same when their bytes are, whatever their names.

    Raises:
        DataError: Some image is in both sets, or one cannot be read from the disk.
    """
    try:
        sizes = {_size(sample.image) for sample in calibration.samples}
        used = {_digest(sample.image) for sample in calibration.samples}
        shared = [
            sample.name
            for sample in evaluation.samples
            # Few images are of the same size to the byte, so few are read.
            if _size(sample.image) in sizes and _digest(sample.image) in used
        ]
    except OSError as error:
        raise DataError(f"cannot read '{error.filename}' ({error.strerror})") from error
    if shared:
        names = ", ".join(f"'{name}'" for name in shared[:_SHOWN])
        more = ", ..." if len(shared) > _SHOWN else ""
        raise DataError(
            f"{len(shared)} of {len(evaluation.samples)} images of '{evaluation.name}' are also in "
            f"the calibration set '{calibration.name}' ({names}{more}): accuracy on them flatters; "
            "calibrate on other images"
        )


def _size(image: ImageLike) -> int:
    if isinstance(image, (str, os.PathLike)):
        return os.stat(image).st_size
    return len(_content(image))


def _digest(image: ImageLike) -> bytes:
    return hashlib.sha256(_content(image)).digest()


def _content(image: ImageLike) -> bytes:
    if isinstance(image, (str, os.PathLike)):
        return Path(image).read_bytes()
    if isinstance(image, bytes):
        return image
    if isinstance(image, np.ndarray):
        return image.tobytes()
    return open_image(image).tobytes()
