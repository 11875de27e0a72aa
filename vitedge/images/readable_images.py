"""Images that can be decoded, told from those that cannot before any work rests on them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from vitedge.errors import DataError
from vitedge.images.image_sets import ImageSet
from vitedge.images.pictures import check_image
from vitedge.images.samples import Sample, Selection
from vitedge.terminal.progress import Progress, silent

_FEW = 10
"""Calibration images below which the ranges of integers are taken from too little."""


def readable(images: ImageSet, *, strict: bool = False, progress: Progress = silent) -> ImageSet:
    """The images that decode; what does not is left out, and the set says so.

    Each file is decoded once, at an eighth of its size where its format allows that.

    Args:
        images: A set of images.
        strict: Whether one that does not decode is an error.
        progress: Told how many were decoded.

    Raises:
        DataError: None of them decodes, or one does not and the check is strict.
    """

    def fault(sample: Sample) -> str:
        try:
            check_image(sample.image)
        except DataError as error:
            if strict:
                raise
            return str(error)
        return ""

    faults = []
    with ThreadPoolExecutor() as pool:  # Pillow decodes without the interpreter's lock
        for each in pool.map(fault, images.samples):
            faults.append(each)
            progress(f"looking at the images of {images.name}", len(faults), len(images.samples))
    bad = [each for each in faults if each]
    if not bad:
        return images
    if len(bad) == len(faults):
        raise DataError(f"none of the {len(bad)} images of '{images.name}' can be read: {bad[0]}")
    kept = Selection(images.samples, np.flatnonzero([not each for each in faults]))
    return replace(images, samples=kept, left_out=(*images.left_out, *bad))


def warn_of_images(
    images: ImageSet, warn: Callable[[str], None], *, calibrating: bool = False
) -> None:
    """Says what of a set is not used, and whether what is left is little.

    Args:
        images: The set, after ``readable`` where it was asked.
        warn: Told each warning.
        calibrating: Whether the images are for calibration, so that few of them count as little.
    """
    if images.left_out:
        shown = "; ".join(images.left_out[:_FEW])
        more = len(images.left_out) - _FEW
        others = f"; and {more} more" if more > 0 else ""
        warn(f"left out of '{images.name}': {shown}{others}")
    n = len(images.samples)
    if calibrating and n < _FEW:
        warn(
            f"{n} calibration image{'s' if n != 1 else ''}: the ranges of integers rest on what "
            "these show; a few dozen typical photos are better"
        )
