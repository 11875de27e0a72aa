"""Transposed convolutions; where windows overlap, a convolution for each phase, side by side.

With strides of s, every s-th row of the result is made by the same taps of the kernel, on
neighbouring rows of the input. So one convolution makes all s x s phases as channels of their own,
and moving them between their neighbours makes the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitedge.importers.lift.draft import Draft, float_array
from vitedge.importers.lift.images_read import (
    COLUMNS,
    ROWS,
    Pair,
    Sliding,
    convolved,
    image_seen,
    laid_out,
    spread,
)
from vitedge.importers.lift.views import View
from vitedge.network.operators import Array


@dataclass(frozen=True)
class Phases:
    """One axis of a transposed convolution as a convolution.

    Attributes:
        taps: The tap of the kernel at each place of the window, for each phase; -1 for none.
        padding: The padding of the input, before and after.
    """

    taps: tuple[tuple[int, ...], ...]
    padding: Pair


def phases_of(size: int, kernel: int, stride: int, padding: Pair, extra: int) -> Phases:
    """The phases of an axis.

    Args:
        size: The size of the input.
        kernel: Taps of the kernel.
        stride: Places of the result from one place of the input to the next.
        padding: Places that are cut off the result, before and after.
        extra: Places that are added to it at its end.

    Raises:
        ValueError: The result is not a whole number of strides for each place of the input.
    """
    if (size - 1) * stride + kernel - sum(padding) + extra != size * stride:
        raise ValueError("its result does not have as many rows and columns as its strides tell")
    # The place y of the result sums taps k of places i with i * stride + k - padding == y.
    found = [
        {
            (phase + padding[0] - tap) // stride: tap
            for tap in range(kernel)
            if (phase + padding[0] - tap) % stride == 0
        }
        for phase in range(stride)
    ]
    places = [place for each in found for place in each]
    first, last = min([*places, 0]), max([*places, 0])
    taps = tuple(tuple(each.get(at, -1) for at in range(first, last + 1)) for each in found)
    return Phases(taps, (-first, last))


def transposed_convolution(
    draft: Draft,
    x: View,
    axes: Sequence[int],
    weight: Array,
    bias: Array | None,
    *,
    strides: Pair,
    padding: tuple[Pair, Pair],
    extra: Pair,
) -> View:
    """A transposed convolution.

    Args:
        draft: The draft that makes the values.
        x: The tensor.
        axes: Rows, columns and channels of it; all others have size 1.
        weight: ``(kernel_height, kernel_width, channels, outputs)``.
        bias: ``(outputs,)``, or None.
        strides: The strides of rows and of columns.
        padding: The border that is cut off the result, of rows and of columns.
        extra: The border that is added to the result's end, of rows and of columns.

    Raises:
        ValueError: See ``phases_of``.
    """
    sizes = x.shape[axes[ROWS]], x.shape[axes[COLUMNS]]
    kernels = weight.shape[0], weight.shape[1]
    if strides == kernels and not any(map(any, (*padding, extra))):
        return spread(draft, x, axes, weight, bias)
    rows, columns = map(phases_of, sizes, kernels, strides, padding, extra)
    kernel = kernel_of_phases(weight, rows, columns)
    shift = None if bias is None else np.tile(float_array(bias), strides[0] * strides[1])
    sliding = Sliding(padding=(rows.padding, columns.padding))
    made = convolved(draft, x, axes, kernel, shift, sliding, 1)
    return _side_by_side(made, axes, strides)


def kernel_of_phases(weight: Array, rows: Phases, columns: Phases) -> Array:
    """The kernel that makes all phases, ``(rows, columns, channels, phases * outputs)``.

    Args:
        weight: ``(kernel_height, kernel_width, channels, outputs)``.
        rows: The phases of the rows.
        columns: The phases of the columns.
    """
    # Behind the kernel's last tap, zeros: that is where -1 leads.
    padded = np.pad(float_array(weight), ((0, 1), (0, 1), (0, 0), (0, 0)))
    taps = np.array(rows.taps)[:, None, :, None], np.array(columns.taps)[None, :, None, :]
    chosen = padded[taps]  # row phase, column phase, row, column, channels, outputs
    kernel = chosen.transpose(2, 3, 4, 0, 1, 5)
    return np.ascontiguousarray(kernel.reshape(*kernel.shape[:3], -1))


def _side_by_side(made: View, axes: Sequence[int], strides: Pair) -> View:
    """The image whose phases are the channels of another."""
    first = image_seen(made, axes)
    height, width, channels = first.shape
    outputs = channels // (strides[0] * strides[1])
    apart = first.reshaped((height, width, *strides, outputs)).transposed((0, 2, 1, 3, 4))
    image = apart.reshaped((height * strides[0], width * strides[1], outputs))
    return laid_out(image, axes, len(made.axes))
