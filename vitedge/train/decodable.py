"""Finds the files of a training set that decode, before hours of work rest on them."""

from __future__ import annotations

import os
from dataclasses import replace

from vitedge.images.image_sets import ImageSet
from vitedge.images.readable_images import readable
from vitedge.images.samples import RelabelledSamples
from vitedge.terminal.progress import Progress, silent


def decodable(
    images: ImageSet,
    *,
    strict: bool = False,
    keep_classes: bool = False,
    progress: Progress = silent,
) -> ImageSet:
    """The files that decode, and the classes that still have any; the set says what it lost.

    Sets that lie in one file are returned as they are.

    Args:
        images: The images, at least one.
        strict: A file that does not decode is an error.
        keep_classes: Labels stay as they are, whatever class has lost all its images.
        progress: Told how many files were looked at.

    Raises:
        DataError: None decodes, or one does not and the check is strict.
    """
    if not isinstance(images.samples[0].image, str | os.PathLike):
        return images
    found = readable(images, strict=strict, progress=progress)
    before, after = ({each.label for each in some.samples} for some in (images, found))
    lost = sorted(each for each in before - after if each is not None)
    if keep_classes or not lost or not images.class_names:
        return found
    names = [name for label, name in enumerate(images.class_names) if label not in lost]
    index_of = {name: index for index, name in enumerate(names)}
    labels = [
        None if each.label is None else index_of[images.class_names[each.label]]
        for each in found.samples
    ]
    words = [f"the class '{images.class_names[label]}' (no photo of it decodes)" for label in lost]
    return replace(
        found,
        samples=RelabelledSamples(found.samples, labels),
        class_names=tuple(names),
        left_out=(*found.left_out, *words),
    )
