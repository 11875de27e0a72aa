"""Images as people have them: a path, or images in memory."""

from __future__ import annotations

import os
from pathlib import Path

from vitedge.images.cifar import Part
from vitedge.images.image_sets import ImageSet, open_images
from vitedge.images.in_memory import Images, images_in_memory


def photos_of(images: Images | None) -> Path | ImageSet | None:
    """Turns images in memory into the set that the rest of vitedge takes.

    Raises:
        DataError: Images in memory cannot be used.
    """
    if images is None:
        return None
    if isinstance(images, str | os.PathLike):
        return Path(images)
    return images_in_memory(images)


def calibration_set(images: Images | None) -> ImageSet | None:
    """Opens the images that artefacts were calibrated on; None stays None.

    Raises:
        DataError: The images cannot be used.
    """
    photos = photos_of(images)
    return None if photos is None else open_images(photos, part=Part.TRAINING)
