"""Sets of images, labelled or not, read one at a time.

Nothing here holds a set in memory: an ``ImageSet`` knows names and labels, and each image is
decoded by whoever asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vitedge.preprocess import ImageLike


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
