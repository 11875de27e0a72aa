"""Digests of image files: whether two sets share any, though one of them is no longer at hand.

Of a large set the smallest digests alone are kept. Whether another set's image is among those can
be told for each image whose digest is small enough (a bottom-k sketch, doi:10.1145/1065167.1065199
has the idea), and they are a random sample of all.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitedge.errors import DataError
from vitedge.images.image_sets import ImageSet
from vitedge.images.preprocess import ImageLike, open_image

KEPT = 256
_HEX_DIGITS = 12  # of 48 bits: a million images meet another's digest once in 500 sets


@dataclass(frozen=True)
class Shared:
    """Measures how much of a set is in another one.

    Attributes:
        names: Images that are in both, as far as is known.
        looked_at: Images of the set of which it is known whether they are in the other.
    """

    names: tuple[str, ...]
    looked_at: int


def size_of(image: ImageLike) -> int:
    """Bytes of an image as it is kept."""
    if isinstance(image, (str, os.PathLike)):
        return os.stat(image).st_size
    return len(_content(image))


def digest_of(image: ImageLike) -> bytes:
    """SHA-256 of an image as it is kept: of its file, or of its pixels."""
    return hashlib.sha256(_content(image)).digest()


def smallest_digests(images: ImageSet) -> tuple[str, ...]:
    """The smallest digests of a set's images, in hex, ascending; ``KEPT`` of them at most.

    Raises:
        DataError: An image cannot be read from the disk.
    """
    return tuple(sorted({digest for _, digest in _digests(images)})[:KEPT])


def shared_with(images: ImageSet, others: Sequence[str]) -> Shared:
    """Finds the images of a set that are in another.

    Args:
        images: The set.
        others: The digests that ``smallest_digests`` returned for the other set.

    Raises:
        DataError: An image cannot be read from the disk.
    """
    known = set(others)
    # A set of fewer images has given all its digests; else nothing is known beyond the largest.
    bound = max(known) if len(known) >= KEPT else ""
    looked_at = [
        (name, digest) for name, digest in _digests(images) if not bound or digest <= bound
    ]
    return Shared(tuple(name for name, digest in looked_at if digest in known), len(looked_at))


def _digests(images: ImageSet) -> Iterator[tuple[str, str]]:
    try:
        for sample in images.samples:
            yield sample.name, digest_of(sample.image).hex()[:_HEX_DIGITS]
    except OSError as error:
        raise DataError(f"cannot read '{error.filename}' ({error.strerror})") from error


def _content(image: ImageLike) -> bytes:
    if isinstance(image, (str, os.PathLike)):
        return Path(image).read_bytes()
    if isinstance(image, bytes):
        return image
    if isinstance(image, np.ndarray):
        return image.tobytes()
    return open_image(image).tobytes()
