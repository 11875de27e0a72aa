"""Convolutions, pools and resizes of a source, whose channels stand where its author put them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from vitedge.importers.lift.arithmetic import Elementwise, along, combined
from vitedge.importers.lift.contraction import contracted
from vitedge.importers.lift.draft import Draft, float_array
from vitedge.importers.lift.views import View
from vitedge.network.network import Value
from vitedge.network.operators import (
    Array,
    Concatenate,
    Constant,
    Convolution,
    Linear,
    Multiply,
    Pool,
    PoolKind,
    Resize,
    ResizeKind,
)

Pair: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Sliding:
    """The way in which a window slides over rows and columns.

    Attributes:
        strides: The step from one place to the next.
        padding: Before and after the rows, before and after the columns.
        dilations: The step from one place in the window to the next.
    """

    strides: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilations: Pair = (1, 1)


ROWS, COLUMNS, CHANNELS = range(3)


def image_of(draft: Draft, x: View, axes: Sequence[int]) -> Value:
    """A value ``(height, width, channels)`` of a tensor.

    Args:
        draft: The draft that makes the values.
        x: The tensor.
        axes: The axes of rows, columns and channels; all others have size 1.
    """
    return draft.lying(x, [x.axes[axis] for axis in axes])


def seen_as(made: Value, axes: Sequence[int], rank: int) -> View:
    """An image as the source has it: the inverse of ``image_of``."""
    return laid_out(View.whole(made, made.shape), axes, rank)


def _others(x: View, axes: Sequence[int]) -> list[int]:
    """Axes that number images, such as heads instead of a batch."""
    return [axis for axis, size in enumerate(x.shape) if axis not in axes and size > 1]


def images_among_channels(draft: Draft, x: View, axes: Sequence[int]) -> tuple[View, int]:
    """Several images as one that has the channels of all, and how many they are.

    Args:
        draft: The draft that makes the values.
        x: The tensor.
        axes: The axes of rows, columns and channels; all others number images.
    """
    others = _others(x, axes)
    count = math.prod(x.shape[axis] for axis in others)
    rows, columns, channels = axes
    ones = [axis for axis in range(len(x.axes)) if axis not in (*axes, *others)]
    seen = x.transposed([rows, columns, *others, channels, *ones])
    shape = (x.shape[rows], x.shape[columns], count * x.shape[channels])
    joined = draft.reshaped(seen, shape)
    assert isinstance(joined, View)
    return joined, count


def images_apart(draft: Draft, made: Value, x: View, axes: Sequence[int]) -> View:
    """The inverse of ``images_among_channels``, of what was made of them."""
    others = _others(x, axes)
    if not others:
        return seen_as(made, axes, len(x.axes))
    rows, columns, channels = axes
    counts = [x.shape[axis] for axis in others]
    ones = [axis for axis in range(len(x.axes)) if axis not in (*axes, *others)]
    wide = made.shape[2] // math.prod(counts)
    cut = draft.reshaped(
        View.whole(made, made.shape), (*made.shape[:2], *counts, wide, *(1 for _ in ones))
    )
    assert isinstance(cut, View)
    order = [rows, columns, *others, channels, *ones]
    return cut.transposed([order.index(axis) for axis in range(len(order))])


def image_seen(x: View, axes: Sequence[int]) -> View:
    """A tensor seen as ``(height, width, channels)``, without a value of its own."""
    others = [axis for axis in range(len(x.axes)) if axis not in axes]
    seen = x.transposed([*axes, *others])
    return View(seen.value, seen.factors, seen.axes[:3])


def laid_out(image: View, axes: Sequence[int], rank: int) -> View:
    """A view ``(height, width, channels)`` as the source has it: the inverse of ``image_seen``."""
    found: list[tuple[int, ...]] = [()] * rank
    for place, axis in enumerate(axes):
        found[axis] = image.axes[place]
    return View(image.value, image.factors, tuple(found))


def convolved(
    draft: Draft,
    x: View,
    axes: Sequence[int],
    weight: Array,
    bias: Array | None,
    sliding: Sliding,
    groups: int,
) -> View:
    """A convolution.

    Args:
        draft: The draft that makes the values.
        x: The tensor.
        axes: Rows, columns and channels of it.
        weight: ``(kernel_height, kernel_width, channels / groups, outputs)``.
        bias: ``(outputs,)``, or None.
        sliding: The way in which the kernel slides.
        groups: See ``Convolution``.
    """
    weight = _dilated(float_array(weight), sliding.dilations)
    kernel = weight.shape[0], weight.shape[1]
    if kernel != sliding.strides:
        x, sliding = _unpadded(x, axes, sliding, kernel, 0.0)
    outputs = weight.shape[3]
    bias = np.zeros(outputs, np.float32) if bias is None else float_array(bias)
    is_tight = sliding.padding == ((0, 0), (0, 0)) and groups == 1
    is_one = not _others(x, axes)
    if is_tight and kernel == (1, 1) == sliding.strides:
        return along(draft, x, axes[CHANNELS], Linear(weight[0, 0], bias))
    height, width = (x.shape[axis] for axis in axes[:2])
    fits = not height % kernel[0] and not width % kernel[1]
    if is_tight and is_one and kernel == sliding.strides and fits:
        return _on_patches(draft, x, axes, weight, bias)
    joined, count = images_among_channels(draft, x, axes)
    several = np.tile(weight, count), np.tile(bias, count)
    layer = Convolution(*several, sliding.strides, sliding.padding, groups * count)
    made = draft(layer, image_of(draft, joined, (ROWS, COLUMNS, CHANNELS)))
    return draft.without_ones(images_apart(draft, made, x, axes))


def _unpadded(
    x: View, axes: Sequence[int], sliding: Sliding, window: Pair, number: float
) -> tuple[View, Sliding]:
    """The image without the padding that stands before a window, which takes it over.

    Args:
        x: The tensor.
        axes: The axes of rows, columns and channels.
        sliding: The way in which the window slides.
        window: Rows and columns of the window.
        number: The number that the window has beyond the edge.
    """
    padding = list(sliding.padding)
    while isinstance(x.value.operator, Concatenate):
        place = x.value.operator.axis
        side = next((each for each in (0, 1) if x.axes[axes[each]] == x.of_axis(place)), None)
        parts = x.value.inputs
        image = [each for each in parts if not _is_filled(each, number)]
        if side is None or len(x.factors[place]) != 1 or len(image) != 1:
            break
        size, index = image[0].shape[place], parts.index(image[0])
        before, after = (
            each + sum(part.shape[place] for part in some)
            for each, some in zip(padding[side], (parts[:index], parts[index + 1 :]), strict=True)
        )
        if size == 1 or max(before, after) >= window[side]:
            break
        padding[side] = before, after
        factors = (*x.factors[:place], (size,), *x.factors[place + 1 :])
        x = View(image[0], factors, x.axes)
    return x, replace(sliding, padding=(padding[0], padding[1]))


def _is_filled(value: Value, number: float) -> bool:
    made = value.operator
    return isinstance(made, Constant) and bool((made.values == number).all())


def _dilated(weight: Array, dilations: Pair) -> Array:
    if dilations == (1, 1):
        return weight
    rows, columns, *rest = weight.shape
    sizes = [(size - 1) * by + 1 for size, by in zip((rows, columns), dilations, strict=True)]
    wide = np.zeros((*sizes, *rest), np.float32)
    wide[:: dilations[0], :: dilations[1]] = weight
    return wide


def _on_patches(draft: Draft, x: View, axes: Sequence[int], weight: Array, bias: Array) -> View:
    """A convolution whose stride is its kernel: a linear layer on patches, as of ``patch_grid``."""
    image = image_of(draft, x, axes)
    (height, width, channels), (rows, columns) = image.shape, weight.shape[:2]
    down, across = height // rows, width // columns
    seen = View.whole(image, (down, rows, across, columns, channels)).transposed((0, 2, 1, 3, 4))
    patches = draft.lying(
        seen, [(*seen.axes[0], *seen.axes[1]), sum((seen.axes[each] for each in (2, 3, 4)), ())]
    )
    made = draft(Linear(weight.reshape(-1, weight.shape[3]), bias), patches)
    return laid_out(View.whole(made, (down, across, weight.shape[3])), axes, len(x.axes))


def spread(draft: Draft, x: View, axes: Sequence[int], weight: Array, bias: Array | None) -> View:
    """A transposed convolution whose stride is its kernel.

    Args:
        draft: The draft that makes the values.
        x: The tensor.
        axes: Rows, columns and channels of it.
        weight: ``(kernel_height, kernel_width, channels, outputs)``.
        bias: ``(outputs,)``, or None.
    """
    made = contracted(draft, "hwc,rsco->hrwso", image_seen(x, axes), float_array(weight))
    assert isinstance(made, View)
    down, rows, across, columns, outputs = made.shape
    image = made.reshaped((down * rows, across * columns, outputs))
    if bias is not None:
        shifted = combined(draft, Elementwise.SUM, image, float_array(bias))
        assert isinstance(shifted, View)
        image = shifted
    return laid_out(image, axes, len(x.axes))


def pooled(
    draft: Draft,
    x: View,
    axes: Sequence[int],
    kind: PoolKind,
    window: Pair,
    sliding: Sliding,
    *,
    counts_padding: bool = False,
) -> View:
    """A pool; see ``convolved``.

    Raises:
        ValueError: The window has gaps.
    """
    if sliding.dilations != (1, 1):
        raise ValueError("its window has gaps")
    if kind is PoolKind.MAX:
        x, sliding = _unpadded(x, axes, sliding, window, -math.inf)
    pool = Pool(kind, window, sliding.strides, sliding.padding)
    joined, _ = images_among_channels(draft, x, axes)
    made = draft(pool, image_of(draft, joined, (ROWS, COLUMNS, CHANNELS)))
    if counts_padding and kind is PoolKind.AVERAGE and sliding.padding != ((0, 0), (0, 0)):
        shares = _inside(x, axes, window, sliding) / math.prod(window)
        made = draft(Multiply(), made, draft.constant(shares[:, :, None]))
    return images_apart(draft, made, x, axes)


def largest(draft: Draft, x: View, axes: Sequence[int], *, keep: bool) -> View:
    """The largest numbers along axes: a pool whose window is all of an axis.

    Args:
        draft: The draft that makes the values.
        x: The tensor, of one axis or more besides those.
        axes: The axes.
        keep: Whether they stay, with size 1.

    Raises:
        ValueError: The tensor has no other axis.
    """
    for axis in axes:
        others = [each for each in range(len(x.shape)) if each != axis]
        if not others:
            raise ValueError("it takes the largest of all numbers")
        sizes = tuple(x.shape[each] for each in others)
        stacked = (x.shape[axis], math.prod(sizes[:-1]), sizes[-1])
        image = draft.reshaped(x.transposed([axis, *others]), stacked)
        assert isinstance(image, View)
        pool = Pool(PoolKind.MAX, (stacked[0], 1))
        made = draft.reshape(draft(pool, image_of(draft, image, (0, 1, 2))), stacked[1:])
        found = draft.reshaped(View.whole(made, made.shape), (*sizes[:axis], 1, *sizes[axis:]))
        assert isinstance(found, View)
        x = found
    if keep:
        return x
    left = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
    return x.reshaped(left)


def _inside(x: View, axes: Sequence[int], window: Pair, sliding: Sliding) -> Array:
    """The number of pixels of each window that lie inside the image, ``(rows, columns)``."""
    counts = []
    for axis, size, stride, (before, after) in zip(
        axes, window, sliding.strides, sliding.padding, strict=False
    ):
        line = np.pad(np.ones(x.shape[axis], np.float32), (before, after))
        seen = np.lib.stride_tricks.sliding_window_view(line, size)[::stride]
        counts.append(seen.sum(-1))
    inside: Array = np.outer(*counts).astype(np.float32)
    return inside


def resized(draft: Draft, x: View, axes: Sequence[int], size: Pair, kind: ResizeKind) -> View:
    """An image in another size."""
    made = draft(Resize(*size, kind), image_of(draft, x, axes))
    return seen_as(made, axes, len(x.axes))
