"""Patches put back into an image, as ``torch.nn.functional.fold`` and ONNX's ``Col2Im`` do.

Where patches do not overlap this is a move. Otherwise each pixel is the sum of what the patches
around it have for it: as many images are taken out of the patches as there are at most for a pixel,
and added up.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from vitedge.importers.lift.draft import Draft
from vitedge.importers.lift.images_read import Pair
from vitedge.importers.lift.views import View
from vitedge.network.network import Value
from vitedge.network.operators import Add, Concatenate, Take


def folded(
    draft: Draft,
    x: View,
    image: Pair,
    patch: Pair,
    *,
    strides: Pair,
    padding: tuple[Pair, Pair],
) -> View:
    """The image of which patches were cut; what overlaps is summed.

    Args:
        draft: The draft that makes the values.
        x: ``(1, channels * rows * columns of a patch, patches)``.
        image: Rows and columns of the image.
        patch: Rows and columns of a patch.
        strides: Rows and columns from one patch to the next.
        padding: The border of the padded image that is cut off, of rows and of columns.

    Returns:
        ``(1, channels, *image)``.

    Raises:
        ValueError: The patches are not those of such an image.
    """
    bordered = [size + sum(border) for size, border in zip(image, padding, strict=True)]
    counts = [
        (size - each) // stride + 1
        for size, each, stride in zip(bordered, patch, strides, strict=True)
    ]
    channels = x.shape[1] // (patch[0] * patch[1])
    if (channels * patch[0] * patch[1], counts[0] * counts[1]) != tuple(x.shape[1:]):
        raise ValueError(f"{x.shape} are not the patches of an image of {image}")
    is_apart = strides == patch and padding == ((0, 0), (0, 0))
    if is_apart and image == (counts[0] * patch[0], counts[1] * patch[1]):
        return _side_by_side(draft, x, (channels, *patch), counts)
    rows, columns = (
        _patches_of(*each)
        for each in zip(
            image, counts, patch, strides, (before for before, _ in padding), strict=True
        )
    )
    read, zeros = _pixels(draft, x, channels, (*patch, *counts))
    images = []
    for (row, row_within), (column, column_within) in itertools.product(rows, columns):
        of_patch = row[:, None] * counts[1] + column
        within = row_within[:, None] * patch[1] + column_within
        is_there = (row[:, None] >= 0) & (column >= 0)
        places = np.where(is_there, of_patch * math.prod(patch) + within, zeros)
        images.append(draft(Take(0, tuple(places.reshape(-1).tolist())), read))
    total = functools.reduce(lambda a, b: draft(Add(), a, b), images)
    return View.whole(total, (1, *image, channels)).transposed((0, 3, 1, 2))


def _patches_of(
    size: int, count: int, patch: int, stride: int, before: int
) -> Iterator[npt.NDArray[np.int64]]:
    """The patches over each place of an axis: one of each place at a time.

    Args:
        size: Places of the image.
        count: The number of patches.
        patch: Places of a patch.
        stride: Places from one patch to the next.
        before: Places of the border before the image.

    Yields:
        ``(2, size)``: a patch over each place, and the place within it; -1 where there are no more.
    """
    found = [
        [
            (each, place - each * stride)
            for each in range(count)
            if 0 <= place - each * stride < patch
        ]
        for place in range(before, before + size)
    ]
    for pairs in itertools.zip_longest(*found, fillvalue=(-1, -1)):
        yield np.array(pairs).T


def _pixels(draft: Draft, x: View, channels: int, apart: Sequence[int]) -> tuple[Value, int]:
    """All pixels of all patches, ``(pixels + 1, channels)``, and the place of one of zeros."""
    cut = draft.reshaped(x, (channels, *apart))
    assert isinstance(cut, View)
    count = math.prod(apart)
    pixels = draft.reshaped(cut.transposed((3, 4, 1, 2, 0)), (count, channels))
    assert isinstance(pixels, View)
    read = draft.reshape(draft.in_order(pixels).value, (count, channels))
    zeros = draft.constant(np.zeros((1, channels), np.float32))
    return draft(Concatenate(0), read, zeros), count


def _side_by_side(
    draft: Draft, x: View, apart: tuple[int, int, int], counts: Sequence[int]
) -> View:
    """The image whose small blocks are channels of another: ``apart`` has channels and a block."""
    channels, rows, columns = apart
    cut = draft.reshaped(x, (1, channels, rows, columns, *counts))
    assert isinstance(cut, View)
    shape = (1, channels, counts[0] * rows, counts[1] * columns)
    image = draft.reshaped(cut.transposed((0, 1, 4, 2, 5, 3)), shape)
    assert isinstance(image, View)
    return image
