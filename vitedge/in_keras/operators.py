"""The computation of each operator in Keras: one rule an operator, as ``evaluate`` has.

A constant is held as it is, without a batch axis, which sums and products need not have; wherever
else it is read, it is a batch of one, and is repeated where it stands beside images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from keras import ops

from vitedge.network.evaluate import resize_matrix
from vitedge.network.kinds import Activation, NormKind
from vitedge.network.network import Value
from vitedge.network.operators import (
    Activate,
    Add,
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
from vitedge.network.structure import is_inner, reads_image

Thinning: TypeAlias = Callable[[Any], Any]
"""What a residual branch passes before it is added: stochastic depth drops some of its images."""

Entering: TypeAlias = Callable[[str, Any], Any]
"""What the input of a linear layer, given by name, passes before the layer: rounding."""

FULL = "float32"


@dataclass(frozen=True)
class Manner:
    """The options of computing values.

    Attributes:
        arrays: The tensor of each array of an operator, by the names of the value and of the part.
        products: Dtype of convolutions, of matrix products and of linear layers, but for those of
            the head. All else is float32, and moves keep what they move.
        thin: The input of each residual sum that is the branch, and the function that it passes.
        entering: The function that the inputs of linear layers pass.
    """

    arrays: Callable[[Value, str], Any]
    products: str = FULL
    thin: Mapping[Value, tuple[Value, Thinning]] = field(default_factory=dict)
    entering: Entering | None = None


def computed(value: Value, inputs: Sequence[Any], pixels: Any, manner: Manner) -> Any:
    """The result of a value's operator on its inputs.

    Args:
        value: The value.
        inputs: Each ``(N, ...)``, or ``(1, ...)`` where it is the same for all; of a constant
            ``(...)``.
        pixels: Raw pixels ``(N, H, W, C)``.
        manner: Weights and dtypes.
    """
    if not isinstance(value.operator, Add | Multiply):
        inputs = [
            ops.expand_dims(each, 0) if source.is_constant else each
            for each, source in zip(inputs, value.inputs, strict=True)
        ]
    match value.operator:
        case Pixels():
            return ops.cast(pixels, FULL)
        case Constant():
            return manner.arrays(value, "values")
        case Standardize(mean=mean, std=std):
            scaled = _full(inputs[0]) / 255.0 - ops.convert_to_tensor(mean, FULL)
            return scaled / ops.convert_to_tensor(std, FULL)
        case Linear():
            return _linear(value, inputs[0], manner)
        case Convolution() as layer:
            return _convolved(value, layer, inputs[0], manner)
        case Norm() as norm:
            gamma, beta = manner.arrays(value, "gamma"), manner.arrays(value, "beta")
            return _normalized(_full(inputs[0]), norm) * gamma + beta
        case Activate(kind=kind):
            return activated(_full(inputs[0]), kind)
        case Add():
            first, second = _terms(value, inputs, manner)
            return first + second
        case Multiply():
            first, second = _terms(value, inputs, manner)
            return first * second
        case Product(transposed=transposed):
            first, second = (ops.cast(each, manner.products) for each in inputs)
            return ops.matmul(first, ops.swapaxes(second, -1, -2) if transposed else second)
        case Softmax():
            return _softmax(*map(_full, inputs))
        case Reshape(to=to):
            return ops.reshape(inputs[0], (-1, *to))
        case Transpose(axes=axes):
            return _transposed(inputs[0], axes)
        case Take() as take:
            return _taken(inputs[0], take)
        case Concatenate(axis=axis):
            return ops.concatenate(_alike(inputs), axis=axis + 1)
        case Mean(axis=axis):
            return ops.mean(_full(inputs[0]), axis=axis + 1)
        case Pool() as pool:
            return _pooled(_full(inputs[0]), pool)
        case Resize() as resize:
            return _resized(_full(inputs[0]), resize)
        case Match() as match:
            return ops.stop_gradient(_matched(_full(inputs[0]), match))
        case Merge():
            matrix, x, counts = map(_full, inputs)
            shares = matrix * ops.swapaxes(counts, 1, 2)
            return ops.matmul(shares, x) / ops.sum(shares, axis=2, keepdims=True)
        case Count():
            return ops.matmul(*map(_full, inputs))


def _transposed(x: Any, axes: tuple[int, ...]) -> Any:
    if len(axes) < 4 or axes[0] != 0:
        return ops.transpose(x, (0, *(axis + 1 for axis in axes)))
    # The first axis joins that of the images: GPU delegates know no tensors of five dimensions.
    joined = ops.transpose(ops.reshape(x, (-1, *x.shape[2:])), axes)
    return ops.reshape(joined, (-1, x.shape[1], *joined.shape[1:]))


def activated(x: Any, activation: Activation) -> Any:
    """A non-linearity, element by element."""
    match activation:
        case Activation.GELU:
            return ops.gelu(x, approximate=False)
        case Activation.GELU_TANH:
            return ops.gelu(x, approximate=True)
        case Activation.QUICK_GELU:
            return x * ops.sigmoid(1.702 * x)
        case Activation.RELU:
            return ops.relu(x)
        case Activation.RELU6:
            return ops.relu6(x)
        case Activation.HARD_SWISH:
            return ops.hard_silu(x)
        case Activation.SIGMOID:
            return ops.sigmoid(x)
        case Activation.SILU:
            return ops.silu(x)
        case Activation.TANH:
            return ops.tanh(x)
        case Activation.RECIPROCAL:
            return ops.reciprocal(x)


def _full(x: Any) -> Any:
    return ops.cast(x, FULL)


def _linear(value: Value, x: Any, manner: Manner) -> Any:
    dtype = manner.products if is_inner(value) or reads_image(value) else FULL
    if manner.entering is not None:
        x = manner.entering(value.name, _full(x))
    weight, bias = (ops.cast(manner.arrays(value, part), dtype) for part in ("weight", "bias"))
    return ops.add(ops.matmul(ops.cast(x, dtype), weight), bias)


def _convolved(value: Value, layer: Convolution, x: Any, manner: Manner) -> Any:
    dtype = manner.products
    weight, bias = (ops.cast(manner.arrays(value, part), dtype) for part in ("weight", "bias"))
    x = ops.pad(ops.cast(x, dtype), ((0, 0), *layer.padding, (0, 0)))
    rows, columns, part, outputs = layer.weight.shape
    strides = layer.strides
    if layer.groups == 1:
        return ops.add(ops.conv(x, weight, strides, "valid"), bias)
    if part == 1 and strides[0] == strides[1]:
        each = ops.reshape(weight, (rows, columns, layer.groups, outputs // layer.groups))
        return ops.add(ops.depthwise_conv(x, each, strides, "valid"), bias)
    seen, made = ops.split(x, layer.groups, axis=-1), ops.split(weight, layer.groups, axis=-1)
    parts = [ops.conv(*pair, strides, "valid") for pair in zip(seen, made, strict=True)]
    return ops.add(ops.concatenate(parts, axis=-1), bias)


def _normalized(x: Any, norm: Norm) -> Any:
    if norm.kind is NormKind.LAYER:
        x = x - ops.mean(x, axis=-1, keepdims=True)
    energy = ops.sum if norm.kind is NormKind.L2 else ops.mean
    return x * ops.rsqrt(energy(ops.square(x), axis=-1, keepdims=True) + norm.eps)


def _terms(value: Value, inputs: Sequence[Any], manner: Manner) -> list[Any]:
    """The operands of a sum or product; a branch is thinned, and axes meet from the last on."""
    sides = [_full(each) for each in inputs]
    if value in manner.thin:
        branch, thin = manner.thin[value]
        sides = [
            thin(each) if source is branch else each
            for each, source in zip(sides, value.inputs, strict=True)
        ]
    if all(source.is_constant for source in value.inputs):
        shape = (1, *value.shape)
        sides = [ops.broadcast_to(each, shape) for each in sides]
    return sides


def _taken(x: Any, take: Take) -> Any:
    span = take.span
    if span is None:
        return ops.take(x, np.asarray(take.places, np.int32), axis=take.axis + 1)
    return x[(slice(None),) * (take.axis + 1) + (span,)]


def _alike(parts: Sequence[Any]) -> list[Any]:
    """Each as a batch of as many, and in one dtype."""
    several = [each for each in parts if each.shape[0] != 1]
    dtypes = {str(each.dtype) for each in parts}
    parts = parts if len(dtypes) == 1 else [_full(each) for each in parts]
    if not several or len(several) == len(parts):
        return list(parts)
    count = ops.shape(several[0])[0]
    return [
        ops.broadcast_to(each, (count, *each.shape[1:])) if each.shape[0] == 1 else each
        for each in parts
    ]


def _pooled(x: Any, pool: Pool) -> Any:
    padding = ((0, 0), *pool.padding, (0, 0))
    if pool.kind is PoolKind.MAX:
        padded = ops.pad(x, padding, constant_values=-np.inf)
        return ops.max_pool(padded, pool.window, pool.strides, "valid")
    # The mean over the window counts padding; these are the shares of it inside the image.
    inside = ops.pad(ops.ones_like(x[:1]), padding)
    means, shares = (
        ops.average_pool(each, pool.window, pool.strides, "valid")
        for each in (ops.pad(x, padding), inside)
    )
    return means / shares


def _resized(x: Any, resize: Resize) -> Any:
    for axis, size in ((1, resize.height), (2, resize.width)):
        matrix = ops.convert_to_tensor(resize_matrix(x.shape[axis], size, resize.kind))
        x = ops.moveaxis(ops.matmul(ops.moveaxis(x, axis, -1), matrix), -1, axis)
    return x


def _softmax(x: Any, counts: Any = None) -> Any:
    if counts is None:
        return ops.softmax(x)
    often = ops.log(ops.swapaxes(counts, 1, 2))
    return ops.softmax(x + ops.reshape(often, (-1, *(1,) * (len(x.shape) - 2), x.shape[-1])))


def _matched(x: Any, match: Match) -> Any:
    tokens, merged = x.shape[1], match.merged
    finders, found = (
        np.asarray(each, np.int32) for each in (match.finders(tokens), match.found(tokens))
    )
    similar = ops.matmul(
        ops.take(x, finders, axis=1), ops.swapaxes(ops.take(x, found, axis=1), 1, 2)
    )
    order = ops.argsort(-ops.max(similar, axis=2), axis=1)
    partners = ops.take_along_axis(ops.argmax(similar, axis=2), order[:, :merged], axis=1)
    fixed, between = (
        ops.broadcast_to(ops.one_hot(each, tokens), (ops.shape(x)[0], len(each), tokens))
        for each in (np.arange(match.fixed), found)
    )
    gone, kept = (
        ops.one_hot(ops.take(finders, each, axis=0), tokens)
        for each in (order[:, :merged], order[:, merged:])
    )
    into = ops.swapaxes(ops.one_hot(partners, len(found)), 1, 2)
    return ops.concatenate([fixed, kept, between + ops.matmul(into, gone)], axis=1)
