"""Cuts the window of a depthwise convolution into parts that XNNPACK has kernels for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from vitedge.network.operators import Convolution

# XNNPACK's depthwise kernels take up to so many taps. It computes larger windows as one product for
# each channel, which takes some ten times as long for each tap (docs/decisions/0069).
MOST_TAPS = 25


@dataclass(frozen=True)
class WindowPart:
    """A part of a window.

    Attributes:
        top: The first row of the window that it has.
        left: The first column.
        height: The number of its rows.
        width: The number of its columns.
    """

    top: int
    left: int
    height: int
    width: int

    def of_image(
        self, made: tuple[int, int], strides: tuple[int, int]
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """First row and column of what the part reads of a padded image, and their numbers.

        Args:
            made: Rows and columns of the image that the convolution makes.
            strides: The strides of the convolution.
        """
        rows = (made[0] - 1) * strides[0] + self.height
        columns = (made[1] - 1) * strides[1] + self.width
        return (self.top, self.left), (rows, columns)


def is_depthwise(layer: Convolution) -> bool:
    """Whether each channel is a group of its own, and there are several."""
    return layer.groups > 1 and layer.weight.shape[2] == 1


def is_cut(layer: Convolution) -> bool:
    """Whether a float convolution is computed in parts."""
    rows, columns = layer.weight.shape[:2]
    return is_depthwise(layer) and rows * columns > MOST_TAPS


def window_parts(rows: int, columns: int) -> Iterator[WindowPart]:
    """As few parts as there can be; of whole rows where that takes no more.

    Whole rows of an image lie side by side, so cutting them copies less.
    """
    counts = (
        (down * across, across, down)
        for down in range(1, rows + 1)
        for across in range(1, columns + 1)
        if -(-rows // down) * -(-columns // across) <= MOST_TAPS
    )
    _, across, down = min(counts)
    for top, height in _cut(rows, down):
        for left, width in _cut(columns, across):
            yield WindowPart(top, left, height, width)


def _cut(size: int, count: int) -> Iterator[tuple[int, int]]:
    ends = [size * number // count for number in range(count + 1)]
    return ((first, last - first) for first, last in pairwise(ends))
