"""Computes a network in NumPy: one rule an operator, written to be read, not to be fast.

This is the oracle that all else is tested against.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.network.matching import counted, matched, merged
from vitedge.network.network import Network, Value
from vitedge.network.numerics import activate, mean, normalize, softmax
from vitedge.network.operators import (
    Activate,
    Add,
    Array,
    Concatenate,
    Constant,
    Convolution,
    Count,
    Linear,
    Match,
    Mean,
    Merge,
    Multiply,
    Norm,
    Pixels,
    Pool,
    PoolKind,
    Product,
    Reshape,
    Resize,
    ResizeKind,
    Softmax,
    Standardize,
    Take,
    Transpose,
)

Observer: TypeAlias = Callable[[str, Array], Array | None]
"""Called with a linear layer's name and its input ``(N, ..., inputs)`` when it is reached.

An array that it returns takes the input's place; that is how quantization is simulated."""


def evaluate(
    network: Network,
    images: npt.NDArray[Any],
    observe: Observer | None = None,
    at_convolution: Observer | None = None,
) -> dict[str, Array]:
    """Computes the outputs of raw pixels.

    A value is forgotten once its last reader has read it.

    Args:
        network: The model.
        images: Pixels 0..255 of any real dtype, ``(N, H, W, C)``.
        observe: Called with each linear layer's name and input on the way; may replace the input.
        at_convolution: Called with each convolution's name and the image that it reads; likewise.

    Returns:
        Each output by name, float32 ``(N, ...)``.
    """
    unread = Counter(each for value in network.values for each in value.inputs)
    unread.update(network.outputs.values())
    held: dict[Value, Array] = {}
    for value in network.values:
        inputs = [held[each] for each in value.inputs]
        watches = observe if isinstance(value.operator, Linear) else None
        watches = at_convolution if isinstance(value.operator, Convolution) else watches
        if watches is not None:
            replacement = watches(value.name, inputs[0])
            inputs = inputs if replacement is None else [replacement]
        held[value] = computed(value, inputs, images)
        for each in value.inputs:
            unread[each] -= 1
            if not unread[each]:
                held.pop(each, None)
    return {name: held[value] for name, value in network.outputs.items()}


def forward(network: Network, images: npt.NDArray[Any], observe: Observer | None = None) -> Array:
    """The main output ``(N, ...)`` for raw pixels; see ``evaluate``."""
    return evaluate(network, images, observe)[network.main_name]


def computed(value: Value, inputs: list[Array], images: npt.NDArray[Any]) -> Array:
    """The result of a value's operator on its inputs.

    Args:
        value: The value.
        inputs: Each ``(N, ...)``.
        images: Raw pixels ``(N, H, W, C)``.

    Returns:
        float32 ``(N, ...)``.
    """
    made: Array
    match value.operator:
        case Pixels():
            made = images.astype(np.float32, copy=False)
        case Constant(values=values):
            made = np.broadcast_to(values.astype(np.float32), (len(images), *values.shape))
        case Standardize(mean=means, std=std):
            scaled = inputs[0] / np.float32(255) - np.asarray(means, np.float32)
            made = (scaled / np.asarray(std, np.float32)).astype(np.float32, copy=False)
        case Linear(weight=weight, bias=bias):
            made = inputs[0] @ weight + bias
        case Convolution() as layer:
            made = _convolved(inputs[0], layer)
        case Norm() as norm:
            made = normalize(inputs[0], norm)
        case Activate(kind=kind):
            made = activate(inputs[0], kind)
        case Add():
            a, b = _aligned(value, inputs)
            made = a + b
        case Multiply():
            a, b = _aligned(value, inputs)
            made = a * b
        case Product(transposed=transposed):
            right = inputs[1].swapaxes(-1, -2) if transposed else inputs[1]
            product: Array = inputs[0] @ right
            made = product
        case Softmax():
            made = softmax(*inputs)
        case Reshape(to=to):
            made = inputs[0].reshape(len(inputs[0]), *to)
        case Transpose(axes=axes):
            made = inputs[0].transpose(0, *(axis + 1 for axis in axes))
        case Take() as take:
            made = taken(inputs[0], take)
        case Concatenate(axis=axis):
            made = np.concatenate(inputs, axis=axis + 1)
        case Mean(axis=axis):
            made = mean(inputs[0], axis + 1)
        case Pool() as pool:
            made = _pooled(inputs[0], pool)
        case Resize() as resize:
            made = _resized(inputs[0], resize)
        case Match() as match:
            made = matched(inputs[0], match)
        case Merge():
            made = merged(*inputs)
        case Count():
            made = counted(*inputs)
    return made


def taken(x: Array, take: Take) -> Array:
    """The places of ``(N, ...)`` that are taken; a view where they are neighbours."""
    span = take.span
    where: Any = np.asarray(take.places) if span is None else span
    found: Array = x[(slice(None),) * (take.axis + 1) + (where,)]
    return found


def _aligned(value: Value, inputs: list[Array]) -> list[Array]:
    """Constants with as many axes as the other input: the batch axis stands before them."""
    rank = len(value.shape)
    return [
        each.reshape(len(each), *(1,) * (rank - len(source.shape)), *source.shape)
        for each, source in zip(inputs, value.inputs, strict=True)
    ]


def windows(
    x: Array,
    window: tuple[int, int],
    strides: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]],
    fill: float,
) -> Array:
    """All places of a sliding window over ``(N, H, W, C)``: ``(N, rows, columns, C, *window)``."""
    padded = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=np.float32(fill))
    seen = np.lib.stride_tricks.sliding_window_view(padded, window, axis=(1, 2))
    found: Array = seen[:, :: strides[0], :: strides[1]]
    return found


def _convolved(x: Array, layer: Convolution) -> Array:
    rows, columns, part, outputs = layer.weight.shape
    seen = windows(x, (rows, columns), layer.strides, layer.padding, 0.0)
    parts = []
    for group in range(layer.groups):
        channels = slice(group * part, (group + 1) * part)
        made = slice(group * outputs // layer.groups, (group + 1) * outputs // layer.groups)
        cut = seen[:, :, :, channels].transpose(0, 1, 2, 4, 5, 3)
        flat = cut.reshape(*cut.shape[:3], rows * columns * part)
        parts.append(flat @ layer.weight[..., made].reshape(rows * columns * part, -1))
    result: Array = np.concatenate(parts, axis=-1) + layer.bias
    return result


def _pooled(x: Array, pool: Pool) -> Array:
    result: Array
    if pool.kind is PoolKind.MAX:
        seen = windows(x, pool.window, pool.strides, pool.padding, -np.inf)
        result = seen.max(axis=(-1, -2))
        return result
    total = windows(x, pool.window, pool.strides, pool.padding, 0.0).sum(axis=(-1, -2))
    inside = windows(np.ones_like(x[:1]), pool.window, pool.strides, pool.padding, 0.0)
    result = total / inside.sum(axis=(-1, -2))
    return result


def _resized(x: Array, resize: Resize) -> Array:
    for axis, size in ((1, resize.height), (2, resize.width)):
        x = np.moveaxis(
            np.moveaxis(x, axis, -1) @ resize_matrix(x.shape[axis], size, resize.kind), -1, axis
        )
    return x


def resize_matrix(old: int, new: int, kind: ResizeKind) -> Array:
    """The share that each of the ``new`` places has of each of the ``old``, ``(old, new)``."""
    places = np.arange(new)
    if kind is ResizeKind.BILINEAR_CORNERS:
        where = places * ((old - 1) / max(new - 1, 1))
    else:
        where = (places + 0.5) * (old / new) - 0.5
    matrix = np.zeros((old, new))
    if kind is ResizeKind.NEAREST:
        nearest = np.floor((places + 0.5) * (old / new)).astype(int)
        matrix[nearest, places] = 1
        return matrix.astype(np.float32)
    where = np.clip(where, 0, old - 1)
    low = np.floor(where).astype(int)
    high = np.minimum(low + 1, old - 1)
    np.add.at(matrix, (low, places), 1 - (where - low))
    np.add.at(matrix, (high, places), where - low)
    return matrix.astype(np.float32)
