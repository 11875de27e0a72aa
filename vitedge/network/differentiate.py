"""The effect of an error at the input of a linear layer on the outputs; a rule an operator.

Squared error of a layer's input or output is a poor guide in a transformer: a clipped outlier of a
few tokens can cost more than rounding everywhere. What counts is the error of the outputs, which is
to first order ``J e`` for an error ``e`` of the input with the Jacobian ``J`` of the outputs. For a
random direction ``r`` of the outputs with ``E[r rᵀ] = I``, ``g = Jᵀ r`` is one backward pass, and::

    E_r[(g · e)²]  =  |J e|²

so gradients kept beside sampled inputs turn any quantizer's error into an error of the outputs
(the Gauss-Newton approximation, as in K-FAC, arXiv:1503.05671).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.network.evaluate import computed, resize_matrix, windows
from vitedge.network.kinds import NormKind
from vitedge.network.matching import shares_of
from vitedge.network.network import Network, Value
from vitedge.network.numerics import activation_slope, inverse_deviation, scaled_by_norm
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
    Softmax,
    Standardize,
    Take,
    Transpose,
)
from vitedge.network.structure import after_layers

_ZERO = np.float32(0).tobytes()

Recorder: TypeAlias = Callable[[Value, Array, Array | None], None]
"""Called with a value that linear layers read, its numbers ``(N, ..., channels)`` and the gradient
there: of those layers alone, not of whatever else reads the value. None where there is no layer
between the pixels and the value."""


def record_gradients(
    network: Network,
    images: npt.NDArray[Any],
    directions: Mapping[str, Array],
    record: Recorder,
    at_convolution: Callable[[str, Array], None] | None = None,
) -> dict[str, Array]:
    """Runs forward and backward once and hands out the gradient at each input of linear layers.

    Memory is that of the values that the way back looks at.

    Args:
        network: The model.
        images: Pixels ``(N, H, W, C)``.
        directions: The gradient of each output, by name, ``(N, ...)``.
        record: Called from the last value back to the first.
        at_convolution: Called on the way forward with each convolution's name and its image.

    Returns:
        Each output by name, ``(N, ...)``.
    """
    passed = after_layers(network)
    held, outputs = _forward(network, images, _looked_at(network, passed), at_convolution)
    by_layers: dict[Value, Array | None] = {}
    by_others: dict[Value, list[Array]] = {}
    for name, value in network.outputs.items():
        by_others.setdefault(value, []).append(directions[name])
    for value in reversed(network.values):
        parts = by_others.pop(value, [])
        if value in by_layers:
            at_layers = by_layers.pop(value)
            record(value, held[value], at_layers)
            if at_layers is not None:
                parts.append(at_layers)
        is_layer = isinstance(value.operator, Linear)
        if is_layer and value.inputs[0] not in passed:
            by_layers[value.inputs[0]] = None
        wanted = [each in passed for each in value.inputs]
        made = held.pop(value, None)
        if not parts or not any(wanted):
            continue
        gradient = parts.pop()
        while parts:  # the first reader's first
            gradient = gradient + parts.pop()
        inputs = [_numbers(each, held.get(each), gradient) for each in value.inputs]
        found = _backward(value, inputs, _numbers(value, made, gradient), gradient)
        for each, is_wanted, one in zip(value.inputs, wanted, found, strict=True):
            if is_wanted and is_layer:
                known = by_layers.setdefault(each, one)
                if known is not None and known is not one:
                    known += one
            elif is_wanted:
                by_others.setdefault(each, []).append(one)
    return outputs


def _forward(
    network: Network,
    images: npt.NDArray[Any],
    looked_at: Collection[Value],
    at_convolution: Callable[[str, Array], None] | None,
) -> tuple[dict[Value, Array], dict[str, Array]]:
    """Values that are looked at again, and the outputs by name."""
    unread = Counter(each for value in network.values for each in value.inputs)
    unread.update(network.outputs.values())
    held: dict[Value, Array] = {}
    for value in network.values:
        if at_convolution is not None and isinstance(value.operator, Convolution):
            at_convolution(value.name, held[value.inputs[0]])
        held[value] = computed(value, [held[each] for each in value.inputs], images)
        for each in value.inputs:
            unread[each] -= 1
            if not unread[each] and each not in looked_at:
                held.pop(each, None)
    outputs = {name: held[value] for name, value in network.outputs.items()}
    return held, outputs


def _looked_at(network: Network, passed: Collection[Value]) -> set[Value]:
    """The values whose numbers, not their shape alone, the way back or a recorder needs."""
    found: set[Value] = set()
    for value in network.values:
        match value.operator:
            case Linear():
                found.add(value.inputs[0])
            case Norm() | Activate() | Product():
                found.update(value.inputs)
            case Multiply():
                a, b = value.inputs
                found.update(([b] if a in passed else []) + ([a] if b in passed else []))
            case Merge():
                match, _, counts = value.inputs
                found.update((match, counts))
            case Softmax():
                found.add(value)
            case Pool():
                found.update((value, *value.inputs))
            case _:
                pass
    return found


def _numbers(value: Value, known: Array | None, gradient: Array) -> Array:
    """A value's numbers; of one that is not looked at, zeros of its shape that take no memory."""
    if known is not None:
        return known
    shape = (len(gradient), *value.shape)
    return np.ndarray(shape, np.float32, _ZERO, strides=(0,) * len(shape))


def _backward(value: Value, inputs: list[Array], made: Array, gradient: Array) -> list[Array]:
    """The gradient at each input from that at the value itself."""
    match value.operator:
        case Pixels() | Constant():
            return []
        case Standardize(std=std):
            return [gradient / (np.float32(255) * np.asarray(std, np.float32))]
        case Linear(weight=weight):
            return [gradient @ weight.T]
        case Convolution() as layer:
            return [_convolution_gradient(inputs[0], layer, gradient)]
        case Norm() as norm:
            return [norm_gradient(inputs[0], norm, gradient)]
        case Activate(kind=kind):
            return [gradient * activation_slope(inputs[0], kind)]
        case Add():
            return [_summed(gradient, each) for each in inputs]
        case Multiply():
            a, b = (_wide(each, gradient) for each in inputs)
            return [
                each if source.is_constant else _summed(gradient * factor, each)
                for source, each, factor in zip(value.inputs, inputs, (b, a), strict=True)
            ]
        case Product(transposed=transposed):
            a, b = inputs
            right = b if transposed else b.swapaxes(-1, -2)
            at_b = (
                a.swapaxes(-1, -2) @ gradient if not transposed else gradient.swapaxes(-1, -2) @ a
            )
            return [gradient @ right, at_b]
        case Softmax():
            inner: Array = (gradient * made).sum(axis=-1, keepdims=True)
            return [made * (gradient - inner), *map(np.zeros_like, inputs[1:])]
        case Reshape():
            return [gradient.reshape(inputs[0].shape)]
        case Transpose(axes=axes):
            return [gradient.transpose(0, *(np.argsort(axes) + 1))]
        case Take(axis=axis, places=places) as take:
            at_all = np.zeros(inputs[0].shape, np.float32)
            if take.span is not None:
                at_all[(slice(None),) * (axis + 1) + (take.span,)] = gradient
            else:
                where: Any = (slice(None),) * (axis + 1) + (np.asarray(places),)
                np.add.at(at_all, where, gradient)
            return [at_all]
        case Concatenate(axis=axis):
            ends = np.cumsum([each.shape[axis + 1] for each in inputs])[:-1]
            return list(np.split(gradient, ends, axis=axis + 1))
        case Mean(axis=axis):
            at_each = np.expand_dims(gradient, axis + 1) / inputs[0].shape[axis + 1]
            return [np.broadcast_to(at_each, inputs[0].shape)]
        case Pool() as pool:
            return [_pool_gradient(inputs[0], pool, made, gradient)]
        case Resize() as resize:
            for axis, size in ((1, resize.height), (2, resize.width)):
                matrix = resize_matrix(inputs[0].shape[axis], size, resize.kind)
                gradient = np.moveaxis(np.moveaxis(gradient, axis, -1) @ matrix.T, -1, axis)
            return [gradient]
        case Merge():
            matrix, _, counts = inputs
            at_x = shares_of(matrix, counts).swapaxes(-1, -2) @ gradient
            return [np.zeros_like(matrix), at_x, np.zeros_like(counts)]
        case Match() | Count():  # choices and numbers of tokens are constant
            return [np.zeros_like(each) for each in inputs]


def norm_gradient(x: Array, norm: Norm, gradient: Array) -> Array:
    """The gradient at a norm's input from that at its output, both ``(..., channels)``."""
    normed = scaled_by_norm(x, norm)
    centred = x - x.mean(axis=-1, keepdims=True) if norm.kind is NormKind.LAYER else x
    scale = inverse_deviation(centred, norm)
    inner = gradient * norm.gamma
    if norm.kind is NormKind.L2:
        along: Array = (inner * normed).sum(axis=-1, keepdims=True)
    else:
        along = (inner * normed).mean(axis=-1, keepdims=True)
    result = inner - normed * along
    if norm.kind is NormKind.LAYER:
        result -= inner.mean(axis=-1, keepdims=True)
    scaled: Array = result * scale
    return scaled


def _wide(x: Array, like: Array) -> Array:
    """A constant with as many axes as what it is combined with."""
    return x.reshape(len(x), *(1,) * (like.ndim - x.ndim), *x.shape[1:])


def _summed(gradient: Array, x: Array) -> Array:
    """The gradient at an input whose axes of size 1 were repeated."""
    wide = _wide(x, gradient).shape
    axes = tuple(axis for axis, size in enumerate(wide) if size == 1 and gradient.shape[axis] != 1)
    summed = gradient.sum(axis=axes, keepdims=True) if axes else gradient
    return summed.reshape(x.shape)


def _spread(
    at_windows: Array,
    shape: tuple[int, ...],
    strides: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]],
) -> Array:
    """Adds ``(N, rows, columns, C, *window)`` up where each window stands in ``(N, H, W, C)``."""
    n, height, width, channels = shape
    (top, bottom), (left, right) = padding
    padded = np.zeros((n, height + top + bottom, width + left + right, channels), np.float32)
    _, rows, columns, _, window_rows, window_columns = at_windows.shape
    for row in range(window_rows):
        for column in range(window_columns):
            padded[
                :,
                row : row + rows * strides[0] : strides[0],
                column : column + columns * strides[1] : strides[1],
            ] += at_windows[..., row, column]
    return padded[:, top : top + height, left : left + width]


def _convolution_gradient(x: Array, layer: Convolution, gradient: Array) -> Array:
    rows, columns, part, outputs = layer.weight.shape
    of_group = outputs // layer.groups
    parts = []
    for group in range(layer.groups):
        made = slice(group * of_group, (group + 1) * of_group)
        weight = layer.weight[..., made].reshape(-1, of_group)
        at_cut = (gradient[..., made] @ weight.T).reshape(*gradient.shape[:3], rows, columns, part)
        parts.append(at_cut.transpose(0, 1, 2, 5, 3, 4))
    return _spread(np.concatenate(parts, axis=3), x.shape, layer.strides, layer.padding)


def _pool_gradient(x: Array, pool: Pool, made: Array, gradient: Array) -> Array:
    if pool.kind is PoolKind.MAX:
        seen = windows(x, pool.window, pool.strides, pool.padding, -np.inf)
        share = (seen == made[..., None, None]).astype(np.float32)
        share /= share.sum(axis=(-1, -2), keepdims=True)
    else:
        inside = windows(np.ones_like(x[:1]), pool.window, pool.strides, pool.padding, 0.0)
        share = inside / inside.sum(axis=(-1, -2), keepdims=True)
    return _spread(share * gradient[..., None, None], x.shape, pool.strides, pool.padding)
