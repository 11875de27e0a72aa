"""The places of batch, tokens and channels in a tensor of somebody else's model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.network.operators import Array

Indices: TypeAlias = npt.NDArray[np.int64]
"""Positions along an axis."""


def batch_axes(shape: tuple[int, ...], batch: int) -> list[int]:
    """The axes that may hold so many images; the first axis alone if it holds just them.

    Raises:
        ValueError: There is none.
    """
    fitting = [axis for axis, size in enumerate(shape) if size % batch == 0]
    if not fitting:
        raise ValueError(f"no axis of shape {shape} holds a batch of {batch}")
    return fitting[:1] if fitting[0] == 0 and shape[0] == batch else fitting


def axis_of_first_image(changed: npt.NDArray[Any], batch: int) -> int:
    """The axis along which a change of the first image stays within its first part.

    Args:
        changed: Whether the tensor changed at each place, bool.
        batch: Number of images.

    Raises:
        ValueError: There is none.
    """
    reached = np.argwhere(changed).max(axis=0, initial=0)
    for axis in batch_axes(changed.shape, batch):
        if reached[axis] < changed.shape[axis] // batch:
            return axis
    raise ValueError(f"no axis of shape {changed.shape} keeps {batch} images apart")


@dataclass(frozen=True)
class Shape:
    """The shape of a tensor for any number of images.

    Attributes:
        per_image: The shape for one image.
        batch_axis: The axis that grows with the number of images. It may hold more than the batch:
            an axis of ``N * tokens`` or ``N * heads`` is read image by image.
    """

    per_image: tuple[int, ...]
    batch_axis: int

    @classmethod
    def of_one_batch(cls, shape: tuple[int, ...], batch: int, axis: int) -> Shape:
        """The layout where only one batch size is possible, and the axis is known."""
        return cls((*shape[:axis], shape[axis] // batch, *shape[axis + 1 :]), axis)

    @classmethod
    def of_two_batches(cls, one: tuple[int, ...], two: tuple[int, ...]) -> Shape:
        """Reads the batch axis off the shapes for one and for two images.

        Raises:
            ValueError: Not exactly one axis doubles.
        """
        grown = [axis for axis, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
        if len(grown) != 1 or two[grown[0]] != 2 * one[grown[0]]:
            raise ValueError(f"shape {one} for one image, but {two} for two")
        return cls(one, grown[0])

    @property
    def elements(self) -> int:
        """Number of elements per image."""
        return math.prod(self.per_image)

    def split(self, array: Array) -> Array:
        """Moves the images to a first axis of their own: ``(N, *per_image)``."""
        axis = self.batch_axis
        parts = (*self.per_image[:axis], -1, *self.per_image[axis:])
        return np.moveaxis(array.reshape(parts), axis, 0)

    def join(self, images: Array) -> Array:
        """The inverse of ``split``."""
        axis = self.batch_axis
        n = len(images)
        moved = np.moveaxis(images, 0, axis)
        return moved.reshape(
            (*self.per_image[:axis], n * self.per_image[axis], *self.per_image[axis + 1 :])
        )


@dataclass(frozen=True)
class Layout:
    """A reading of a tensor's axes: each group of axes becomes one axis, in this order."""

    shape: Shape
    groups: tuple[tuple[int, ...], ...]

    @classmethod
    def rows(cls, shape: Shape, channels: tuple[int, ...]) -> Layout:
        """Channels last; all other axes, in order, are the rows (tokens)."""
        rows = tuple(axis for axis in range(len(shape.per_image)) if axis not in channels)
        return cls(shape, (rows, channels))

    @classmethod
    def flat(cls, shape: Shape) -> Layout:
        """All axes as one."""
        return cls(shape, (tuple(range(len(shape.per_image))),))

    @property
    def sizes(self) -> tuple[int, ...]:
        """The length of each group."""
        return tuple(
            math.prod(self.shape.per_image[axis] for axis in group) for group in self.groups
        )

    def read(self, array: Array) -> Array:
        """A tensor as ``(N, *sizes)``."""
        images = self.shape.split(array)
        order = [0, *(1 + axis for group in self.groups for axis in group)]
        return images.transpose(order).reshape(len(images), *self.sizes)

    def write(self, values: Array) -> Array:
        """The inverse of ``read``."""
        order = [axis for group in self.groups for axis in group]
        sizes = [self.shape.per_image[axis] for axis in order]
        images = values.reshape(len(values), *sizes)
        inverse = [0, *(1 + order.index(axis) for axis in range(len(order)))]
        return self.shape.join(images.transpose(inverse))
