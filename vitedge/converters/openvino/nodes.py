"""Nodes of OpenVINO: the operators that need no layer, and constants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.converters.token_merging import MergingEmitter
from vitedge.network.kinds import Activation
from vitedge.network.lowering import group_of
from vitedge.network.network import Network, Value
from vitedge.network.operators import (
    Activate,
    Array,
    Convolution,
    Pool,
    PoolKind,
    Product,
    Resize,
    ResizeKind,
    Softmax,
    Standardize,
)
from vitedge.quantize import Recipe
from vitedge.targets.precisions import Precision


class OpenVINONodes(MergingEmitter[Any]):
    """The steps as OpenVINO nodes; tensors are nodes or their outputs."""

    # OpenVINO 2026.4 fuses biases and norms of three axes alone.
    tokens_are_rows = rows_keep_batch = norms_read_rows = True
    cuts_channels_at_once = True

    def __init__(self, network: Network, recipe: Recipe, batch: int) -> None:
        from openvino import opset13

        super().__init__(network, recipe, batch)
        self._ops: Any = opset13
        self._numbered = 0
        # By the identity of the image with its channels last, which is kept beside, so that no
        # other gets it.
        self._channels_first: dict[int, tuple[Any, Any]] = {}

    def standardize(self, value: Value, operator: Standardize, image: Any) -> Any:
        """See ``Steps``."""
        return self._standardized(value, operator, image, (-1,))

    def _standardized(
        self, value: Value, operator: Standardize, image: Any, shape: tuple[int, ...]
    ) -> Any:
        """The numbers of each channel have a shape in which they meet the channels."""
        name = value.inputs[0].name
        mean, std = (np.asarray(each, np.float64) for each in (operator.mean, operator.std))
        factor, offset = (
            self.constant(f"{name}.{label}", each.astype(np.float32).reshape(shape))
            for label, each in (("factor", 1 / (255 * std)), ("offset", -mean / std))
        )
        scaled = self._ops.multiply(image, factor, name=f"{name}/scaled")
        return self._ops.add(scaled, offset, name=value.name)

    def activate(self, value: Value, activation: Activate, x: Any) -> Any:
        """See ``Steps``."""
        label = value.name
        match activation.kind:
            case Activation.GELU:
                return self._ops.gelu(x, "erf", name=label)
            case Activation.GELU_TANH:
                return self._ops.gelu(x, "tanh", name=label)
            case Activation.QUICK_GELU:
                return self._swish(x, 1.702, label)
            case Activation.RELU:
                return self._ops.relu(x, name=label)
            case Activation.RELU6:
                return self._ops.clamp(x, 0.0, 6.0, name=label)
            case Activation.HARD_SWISH:
                return self._ops.hswish(x, name=label)
            case Activation.SIGMOID:
                return self._ops.sigmoid(x, name=label)
            case Activation.SILU:
                return self._swish(x, 1.0, label)
            case Activation.TANH:
                return self._ops.tanh(x, name=label)
            case Activation.RECIPROCAL:
                return self._ops.divide(self._scalar(f"{label}/one", 1.0), x, name=label)

    def _swish(self, x: Any, beta: float, name: str) -> Any:
        """``x * sigmoid(beta * x)``."""
        return self._ops.swish(x, self._scalar(f"{name}/beta", beta), name=name)

    def add(self, value: Value, a: Any, b: Any) -> Any:
        """See ``Steps``; what is the same for all queries is repeated by head.

        OpenVINO 2026.4 computes attention in bfloat16 wrongly where such a constant is not.
        """
        if any(isinstance(each.operator, Softmax) for each in self.readers.get(value, ())):
            a, b = (
                self._by_head(value, source, x)
                for source, x in zip(value.inputs, (a, b), strict=True)
            )
        return self._ops.add(a, b, name=value.name)

    def _by_head(self, scores: Value, source: Value, x: Any) -> Any:
        heads, _, keys = scores.shape if len(scores.shape) == 3 else (0, 0, 0)
        if not heads or not source.is_constant or math.prod(source.shape) != keys:
            return x
        return self.fixed(source, (1, heads, 1, keys))

    def multiply(self, value: Value, a: Any, b: Any) -> Any:
        """See ``Steps``."""
        return self._ops.multiply(a, b, name=value.name)

    def scale(self, value: Value, x: Any, factor: float) -> Any:
        """See ``Steps``."""
        by = self._scalar(f"{value.name}/by", factor)
        return self._ops.multiply(x, by, name=value.name)

    def product(self, value: Value, product: Product, a: Any, b: Any) -> Any:
        """See ``Steps``; the CPU plug-in fuses scores, softmax and what follows."""
        return self._ops.matmul(a, b, False, product.transposed, name=value.name)

    def softmax(self, value: Value, x: Any) -> Any:
        """See ``Steps``."""
        return self._ops.softmax(x, len(value.shape), name=value.name)

    # --- moves

    def reshape(self, x: Any, shape: tuple[int, ...], name: str) -> Any:
        """See ``Steps``."""
        return self._ops.reshape(x, self._integers(shape), False, name=name)

    def transpose(self, x: Any, order: tuple[int, ...], name: str) -> Any:
        """See ``Steps``."""
        return self._ops.transpose(x, self._integers(order), name=name)

    def concatenate(self, value: Value, parts: list[Any], axis: int) -> Any:
        """See ``Steps``."""
        return self._ops.concat(parts, axis, name=value.name)

    def mean(self, value: Value, x: Any, axis: int) -> Any:
        """See ``Steps``; of more than a matrix, a product with shares that are all alike.

        OpenVINO 2026.4 moves transpositions of images behind a ReduceMean and mixes up their axes.
        """
        shape = (self.batch, *value.inputs[0].shape)
        if len(shape) == 3:
            return self._ops.reduce_mean(x, self._integers((axis,)), False, name=value.name)
        count, name = shape[axis], value.name
        merged = (math.prod(shape[:axis]), count, math.prod(shape[axis + 1 :]))
        x = self.reshape(x, merged, f"{name}/merged")
        shares = self.constant(f"{name}/shares", np.full((1, count), 1 / count, np.float32))
        product = self._ops.matmul(shares, x, False, False, name=f"{name}/product")
        return self.reshape(product, (self.batch, *value.shape), name)

    def cut(self, parts: Sequence[Value], x: Any, axis: int) -> list[Any]:
        """See ``Emitter``."""
        label = group_of(parts[0].name)[0] or parts[0].name
        along = self.constant(f"{label}/axis", np.asarray(axis, np.int64))
        widths = np.asarray([part.shape[-1] for part in parts], np.int64)
        sizes = self.constant(f"{label}/sizes", widths)
        return list(self._ops.variadic_split(x, along, sizes, name=label).outputs())

    def neighbours_along(self, x: Any, axis: int, first: int, count: int, name: str) -> Any:
        """See ``Emitter``; of tokens a Gather: Slice takes 50 microseconds for a single one."""
        if axis == 1:
            return self.places_along(x, axis, tuple(range(first, first + count)), name)
        ends = [self._integers(each) for each in ((first,), (first + count,), (1,), (axis,))]
        return self._ops.slice(x, *ends, name=name)

    def places_along(self, x: Any, axis: int, places: tuple[int, ...], name: str) -> Any:
        """See ``Emitter``."""
        wanted = self._integers(places)
        axes = self.constant(f"{name}/axis", np.asarray(axis, np.int64))
        return self._ops.gather(x, wanted, axes, name=name)

    # --- images

    def convolution(self, value: Value, layer: Convolution, x: Any) -> Any:
        """See ``Steps``."""
        name, rows, outputs = value.name, layer.weight.shape[:3], layer.weight.shape[3]
        image = self.with_channels_first(x, name)
        kind = self._ops.convolution
        if name in self.recipe.weights:
            image, weight = self.in_integers(name, layer, image)
        else:
            numbers = layer.weight.transpose(3, 2, 0, 1)
            if layer.groups > 1:
                kind = self._ops.group_convolution
                numbers = numbers.reshape(
                    layer.groups, outputs // layer.groups, rows[2], rows[0], rows[1]
                )
            weight = self._weight(f"{name}.weight", numbers)
        before, after = zip(*layer.padding, strict=True)
        made = kind(
            image,
            weight,
            list(layer.strides),
            list(before),
            list(after),
            [1, 1],
            name=f"{name}/product",
        )
        bias = self.constant(f"{name}.bias", layer.bias[:, None, None])
        return self.with_channels_last(
            self._ops.add(made, bias, name=f"{name}/channels_first"), name
        )

    def in_integers(self, name: str, layer: Convolution, image: Any) -> tuple[Any, Any]:
        """The image and the weight of a dense convolution, rounded."""
        raise NotImplementedError

    def pool(self, value: Value, pool: Pool, x: Any) -> Any:
        """See ``Steps``."""
        name, (before, after) = value.name, zip(*pool.padding, strict=True)
        is_largest = pool.kind is PoolKind.MAX
        if is_largest and pool.takes_columns(value.inputs[0].shape):
            return self._ops.reduce_max(x, self._integers((1,)), True, name=name)
        image, label = self.with_channels_first(x, name), f"{name}/channels_first"
        sizes = list(pool.strides), list(before), list(after), list(pool.window)
        if is_largest:
            strides, begin, end, window = sizes
            largest = self._ops.max_pool(image, strides, [1, 1], begin, end, window, name=label)
            made = largest.output(0)
        else:
            made = self._ops.avg_pool(image, *sizes, True, name=label)
        return self.with_channels_last(made, name)

    def interpolated(self, value: Value, resize: Resize, x: Any) -> Any:
        """See ``Emitter``."""
        nearest = resize.kind is ResizeKind.NEAREST
        corners = resize.kind is ResizeKind.BILINEAR_CORNERS
        made = self._ops.interpolate(
            self.with_channels_first(x, value.name),
            self._integers((resize.height, resize.width)),
            "nearest" if nearest else "linear_onnx",
            "sizes",
            axes=self._integers((2, 3)),
            coordinate_transformation_mode="align_corners" if corners else "half_pixel",
            nearest_mode="round_prefer_ceil",
            name=f"{value.name}/channels_first",
        )
        return self.with_channels_last(made, value.name)

    def with_channels_first(self, x: Any, name: str) -> Any:
        """An image ``(batch, channels, H, W)``; what was made so is not turned twice."""
        if id(x) not in self._channels_first:
            self._channels_first[id(x)] = x, self.transpose(x, (0, 3, 1, 2), f"{name}/input")
        return self._channels_first[id(x)][1]

    def with_channels_last(self, x: Any, name: str) -> Any:
        """An image turned back, ``(batch, H, W, channels)``, of which it is known how it lay."""
        last = self.transpose(x, (0, 2, 3, 1), name)
        self._channels_first[id(last)] = last, x
        return last

    # --- constants

    def _weight(self, name: str, values: Array) -> Any:
        """A float weight: stored in half but in fp32 files, and widened when the model is compiled.

        So it is in int8 files, for the layers that stay float there. Biases and positions are
        float32 everywhere: they weigh nothing and meet the residual stream as they are.
        """
        if self.recipe.precision is Precision.FP32:
            return self.constant(name, values)
        half = self.constant(f"{name}/float16", values.astype(np.float16))
        widened = self._ops.convert(half, np.float32, name=name)
        # The mark by which OpenVINO knows a compressed weight, and keeps it so when it saves.
        widened.get_rt_info()["decompression"] = ""
        return widened

    # Every constant has a name: OpenVINO would number the others through the whole process, and
    # the same model would not give the same file twice.

    def _integers(self, values: tuple[int, ...]) -> Any:
        self._numbered += 1
        return self.constant(f"integers/{self._numbered}", np.asarray(values, np.int64))

    def _scalar(self, name: str, value: float) -> Any:
        return self.constant(name, np.asarray(value, np.float32))

    def constant(self, name: str, values: npt.NDArray[Any]) -> Any:
        """See ``Steps``."""
        return self._ops.constant(np.asarray(values, order="C"), name=name)
