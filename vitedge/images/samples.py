"""Sequences of images with labels, of which nothing is decoded before somebody asks for it."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from vitedge.images.preprocess import ImageLike


@dataclass(frozen=True)
class Sample:
    """One image of a set.

    Attributes:
        name: The name in messages and reports: its path within the set.
        image: The image in any form that ``Preprocessing`` takes.
        label: Index of its class, or None.
        truth: Path of the ground truth of its pixels, or None; see ``images.true_maps``.
    """

    name: str
    image: ImageLike
    label: int | None
    truth: str | None = None


class Samples(Sequence[Sample]):
    """Samples by their position, and what a part of them is."""

    @abstractmethod
    def at(self, position: int) -> Sample:
        """One of them.

        Args:
            position: The position, from 0, and less than their number.
        """

    def part(self, of: slice) -> Sequence[Sample]:
        """Some of them, fetched when they are asked for."""
        return Selection(self, np.arange(len(self))[of])

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        return self.part(index) if isinstance(index, slice) else self.at(range(len(self))[index])


class ArraySamples(Samples):
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

    def at(self, position: int) -> Sample:
        """See ``Samples``."""
        label = None if self._labels is None else int(self._labels[position])
        return Sample(f"image {position}", np.asarray(self._pixels[position]), label)

    def part(self, of: slice) -> ArraySamples:
        """A view, whose images are counted anew."""
        return ArraySamples(self._pixels[of], None if self._labels is None else self._labels[of])


class RelabelledSamples(Samples):
    """Samples with other labels.

    Args:
        samples: Their names and images.
        labels: One for each.
    """

    def __init__(self, samples: Sequence[Sample], labels: Sequence[int | None]) -> None:
        self._samples, self._labels = samples, labels

    def __len__(self) -> int:
        return len(self._labels)

    def at(self, position: int) -> Sample:
        """See ``Samples``."""
        return replace(self._samples[position], label=self._labels[position])

    def part(self, of: slice) -> RelabelledSamples:
        """The same part of samples and labels."""
        return RelabelledSamples(self._samples[of], self._labels[of])


class Selection(Samples):
    """Some samples of a sequence, fetched from it when asked for.

    Args:
        samples: The whole.
        indices: The positions of the samples in the sequence, ``(N,)``.
    """

    def __init__(self, samples: Sequence[Sample], indices: npt.NDArray[np.intp]) -> None:
        self._samples, self._indices = samples, indices

    def __len__(self) -> int:
        return len(self._indices)

    def at(self, position: int) -> Sample:
        """See ``Samples``."""
        return self._samples[int(self._indices[position])]

    def part(self, of: slice) -> Selection:
        """A smaller selection of the whole."""
        return Selection(self._samples, self._indices[of])


class JoinedSamples(Samples):
    """Several sequences behind one another.

    Args:
        parts: The sequences, at least one.
    """

    def __init__(self, parts: Sequence[ArraySamples]) -> None:
        self._parts = parts
        self._ends = list(accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def at(self, position: int) -> Sample:
        """See ``Samples``."""
        part = bisect_right(self._ends, position)
        start = self._ends[part - 1] if part else 0
        return replace(self._parts[part][position - start], name=f"image {position}")
