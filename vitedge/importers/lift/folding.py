"""Patches put back into an image, as ``torch.nn.functional.fold`` and ONNX's ``Col2Im`` do.

Where patches do not overlap this is a move. Otherwise each pixel is the sum of what the patches
around it have for it: a transposed convolution whose kernel has one 1 for each place of a patch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitedge.importers.lift.draft import Draft
from vitedge.importers.lift.images_read import Pair, Sliding, convolved
from vitedge.importers.lift.transposed import kernel_of_phases, phases_of
from vitedge.importers.lift.views import View

_ROWS, _COLUMNS, _CHANNELS = 2, 3, 1


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
        ValueError: The patches are not those of such an image, or see ``phases_of``.
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
    extra = [
        size - ((count - 1) * stride + each - sum(border))
        for size, count, stride, each, border in zip(
            image, counts, strides, patch, padding, strict=True
        )
    ]
    rows, columns = map(phases_of, counts, patch, strides, padding, extra)
    places = patch[0] * patch[1]
    one_for_each = np.eye(places, dtype=np.float32).reshape(*patch, places, 1)
    kernel = kernel_of_phases(one_for_each, rows, columns)
    grid = draft.reshaped(x, (1, x.shape[1], *counts))
    assert isinstance(grid, View)
    made = convolved(
        draft,
        grid,
        (_ROWS, _COLUMNS, _CHANNELS),
        np.tile(kernel, channels),
        None,
        Sliding(padding=(rows.padding, columns.padding)),
        channels,
    )
    return _side_by_side(draft, made, (channels, *strides), counts)


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
