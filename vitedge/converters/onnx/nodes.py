"""An ONNX graph under construction: nodes, constants, and the operators that need no layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.converters.emitter import beside
from vitedge.converters.token_merging import MergingEmitter
from vitedge.network.kinds import Activation
from vitedge.network.lowering import group_of
from vitedge.network.network import Network, Value
from vitedge.network.operators import (
    Activate,
    Array,
    Pool,
    PoolKind,
    Product,
    Resize,
    ResizeKind,
    Standardize,
)
from vitedge.quantize import Recipe

# ONNX calls it half_pixel where centres are at a half, and the nearest of two is the upper one.
_RESIZES: dict[ResizeKind, dict[str, str]] = {
    ResizeKind.NEAREST: {
        "mode": "nearest",
        "coordinate_transformation_mode": "half_pixel",
        "nearest_mode": "round_prefer_ceil",
    },
    ResizeKind.BILINEAR: {
        "mode": "linear",
        "coordinate_transformation_mode": "half_pixel",
    },
    ResizeKind.BILINEAR_CORNERS: {
        "mode": "linear",
        "coordinate_transformation_mode": "align_corners",
    },
}


class OnnxNodes(MergingEmitter[str]):
    """The steps as ONNX nodes; tensors are their names."""

    tokens_are_rows = True
    cuts_channels_at_once = True

    multiplies = True
    """Whether a product of floats may stand for another step."""

    def __init__(self, network: Network, recipe: Recipe, batch: int) -> None:
        super().__init__(network, recipe, batch)
        self._nodes: list[Any] = []
        self._node_names: set[str] = set()
        self._initializers: dict[str, Any] = {}
        self._names = {"pixels", *network.outputs}
        self._channels_first: dict[str, str] = {}

    def model(self, taken: int, given: int, opset: int, ir_version: int) -> Any:
        """The nodes so far as a model; dtypes are those of pixels and outputs."""
        from onnx import helper

        pixels = (self.batch, *self.network.image_shape)
        outputs = {name: (self.batch, *value.shape) for name, value in self.network.outputs.items()}
        graph = helper.make_graph(
            self._read_nodes(),
            "vision_transformer",
            [helper.make_tensor_value_info("pixels", taken, pixels)],
            [helper.make_tensor_value_info(name, given, shape) for name, shape in outputs.items()],
            list(self._initializers.values()),
        )
        return helper.make_model(
            graph,
            producer_name="vitedge",
            ir_version=ir_version,
            opset_imports=[helper.make_opsetid("", opset)],
        )

    def _read_nodes(self) -> list[Any]:
        """The nodes that outputs need: channels may have been put where nobody reads them."""
        read, kept = set(self.network.outputs), []
        for node in reversed(self._nodes):
            if not read.isdisjoint(node.output):
                kept.append(node)
                read.update(node.input)
        return kept[::-1]

    # --- steps of one node or two

    def standardize(self, value: Value, operator: Standardize, image: str) -> str:
        """See ``Steps``."""
        return self._standardized(value, operator, image, (-1,))

    def _standardized(
        self, value: Value, operator: Standardize, image: str, shape: tuple[int, ...]
    ) -> str:
        """The numbers of each channel have a shape in which they meet the channels."""
        name = value.inputs[0].name
        mean, std = (np.asarray(each, np.float64) for each in (operator.mean, operator.std))
        factor, offset = (
            self.constant(f"{name}.{label}", each.astype(np.float32).reshape(shape))
            for label, each in (("factor", 1 / (255 * std)), ("offset", -mean / std))
        )
        scaled = self._node("Mul", [image, factor], f"{name}/scaled")
        return self._node("Add", [scaled, offset], value.name)

    def activate(self, value: Value, activation: Activate, x: str) -> str:
        """See ``Steps``."""
        label = value.name
        match activation.kind:
            case Activation.GELU:
                return self._node("Gelu", [x], label)
            case Activation.GELU_TANH:
                return self._node("Gelu", [x], label, approximate="tanh")
            case Activation.RELU:
                return self._node("Relu", [x], label)
            case Activation.RELU6:
                bounds = [
                    self.constant(f"{label}/{end}", np.asarray(bound, np.float32))
                    for end, bound in (("least", 0), ("most", 6))
                ]
                return self._node("Clip", [x, *bounds], label)
            case Activation.HARD_SWISH:
                return self._node("HardSwish", [x], label)
            case Activation.SIGMOID:
                return self._node("Sigmoid", [x], label)
            case Activation.TANH:
                return self._node("Tanh", [x], label)
            case Activation.RECIPROCAL:
                return self._node("Reciprocal", [x], label)
            case Activation.QUICK_GELU | Activation.SILU:
                inner = x
                if activation.kind is Activation.QUICK_GELU:
                    inner = self._scaled(x, 1.702, f"{label}/scaled")
                gate = self._node("Sigmoid", [inner], f"{label}/gate")
                return self._node("Mul", [x, gate], label)

    def add(self, value: Value, a: str, b: str) -> str:
        """See ``Steps``."""
        return self._node("Add", [a, b], value.name)

    def multiply(self, value: Value, a: str, b: str) -> str:
        """See ``Steps``."""
        return self._node("Mul", [a, b], value.name)

    def scale(self, value: Value, x: str, factor: float) -> str:
        """See ``Steps``."""
        return self._scaled(x, factor, value.name)

    def product(self, value: Value, product: Product, a: str, b: str) -> str:
        """See ``Steps``; ONNX Runtime fuses scores, softmax and what follows itself."""
        if product.transposed:
            rank = len(value.shape)
            order = (*range(rank - 1), rank, rank - 1)
            b = self.transpose(b, order, beside(value.name, "k_columns"))
        return self._node("MatMul", [a, b], value.name)

    def softmax(self, value: Value, x: str) -> str:
        """See ``Steps``."""
        return self._node("Softmax", [x], value.name, axis=-1)

    def concatenate(self, value: Value, parts: list[str], axis: int) -> str:
        """See ``Steps``."""
        return self._node("Concat", parts, value.name, axis=axis)

    def mean(self, value: Value, x: str, axis: int) -> str:
        """See ``Steps``; over what stands before whole matrices, as heads do, a product.

        ONNX Runtime 1.32 takes ten times as long for a ReduceMean there.
        """
        shape = (self.batch, *value.inputs[0].shape)
        if not self.multiplies or axis != 1 or len(shape) < 4:
            return self._node("ReduceMean", [x, self._axis(axis)], value.name, keepdims=0)
        count, name = shape[1], value.name
        x = self.reshape(x, (self.batch, count, math.prod(shape[2:])), f"{name}/rows")
        shares = self.constant(f"{name}/shares", np.full((1, count), 1 / count, np.float32))
        mean = self._node("MatMul", [shares, x], f"{name}/product")
        return self.reshape(mean, (self.batch, *value.shape), name)

    def reshape(self, x: str, shape: tuple[int, ...], name: str) -> str:
        """See ``Steps``."""
        return self._node("Reshape", [x, self._integers(f"{name}/shape", shape)], name)

    def transpose(self, x: str, order: tuple[int, ...], name: str) -> str:
        """See ``Steps``."""
        return self._node("Transpose", [x], name, perm=order)

    def cut(self, parts: Sequence[Value], x: str, axis: int) -> list[str]:
        """See ``Emitter``."""
        label, sizes = self._size_of_parts(parts)
        names = [part.name for part in parts]
        return self._node_many("Split", [x, sizes], names, label, axis=axis)

    def _size_of_parts(self, parts: Sequence[Value]) -> tuple[str, str]:
        """The name of a cut, and the widths of its parts."""
        label = group_of(parts[0].name)[0] or parts[0].name
        return label, self._integers(f"{label}/sizes", tuple(part.shape[-1] for part in parts))

    def neighbours_along(self, x: str, axis: int, first: int, count: int, name: str) -> str:
        """See ``Emitter``."""
        begin, end = (first,), (first + count,)
        inputs = [self._integers(f"{name}/from", begin), self._integers(f"{name}/to", end)]
        return self._node("Slice", [x, *inputs, self._axis(axis)], name)

    def places_along(self, x: str, axis: int, places: tuple[int, ...], name: str) -> str:
        """See ``Emitter``."""
        inputs = [x, self._integers(f"{name}/places", places)]
        return self._node("Gather", inputs, name, axis=axis)

    # --- images

    def pool(self, value: Value, pool: Pool, x: str) -> str:
        """See ``Steps``."""
        kind = "MaxPool" if pool.kind is PoolKind.MAX else "AveragePool"
        return self._of_image(
            kind,
            [self.with_channels_first(x, value.name)],
            value.name,
            kernel_shape=pool.window,
            strides=pool.strides,
            pads=pads(pool.padding),
        )

    def interpolated(self, value: Value, resize: Resize, x: str) -> str:
        """See ``Emitter``."""
        size = (self.batch, value.shape[2], resize.height, resize.width)
        first = self.with_channels_first(x, value.name)
        sizes = self._integers(f"{value.name}/sizes", size)
        return self._of_image("Resize", [first, "", "", sizes], value.name, **_RESIZES[resize.kind])

    def _of_image(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """A node that wants channels first, with the image as its first input."""
        made = self._node(operator, inputs, f"{name}/channels_first", **attributes)
        return self.with_channels_last(made, name)

    def with_channels_last(self, x: str, name: str) -> str:
        """An image turned back, ``(batch, H, W, channels)``, of which it is known how it lay."""
        last = self.transpose(x, (0, 2, 3, 1), name)
        self._channels_first[last] = x
        return last

    def with_channels_first(self, x: str, name: str) -> str:
        """An image ``(batch, channels, H, W)``; what was made so is not turned twice."""
        if x not in self._channels_first:
            first = self.transpose(x, (0, 3, 1, 2), f"{name}/input")
            self._channels_first[x] = first
        return self._channels_first[x]

    # --- single nodes

    def _node(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Adds a node with one output, which is named like the node, and returns that name."""
        return self._node_many(operator, inputs, [name], name, **attributes)[0]

    def _node_many(
        self, operator: str, inputs: Sequence[str], outputs: list[str], name: str, **attributes: Any
    ) -> list[str]:
        free = [self._free(output) for output in outputs]
        self._add(operator, inputs, free, free[0] if outputs == [name] else name, **attributes)
        return free

    def _add(
        self,
        operator: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        name: str,
        **attributes: Any,
    ) -> None:
        from onnx import helper

        if (
            name in self._node_names
        ):  # of another piece that is cut up, whose parts are called alike
            name = f"{outputs[0]}/{operator}"
        self._node_names.add(name)
        self._nodes.append(helper.make_node(operator, inputs, outputs, name=name, **attributes))

    def _free(self, name: str) -> str:
        """The name, or one like it where another tensor has it already."""
        number, free = 1, name
        while free in self._names:
            number += 1
            free = f"{name}/{number}"
        self._names.add(free)
        return free

    def _scaled(self, x: str, factor: float, name: str) -> str:
        by = self.constant(f"{name}/by", np.asarray([factor], np.float32))
        return self._node("Mul", [x, by], name)

    # --- constants

    def _axis(self, axis: int) -> str:
        label = {1: "token_axis", -1: "last_axis"}.get(axis, f"axis/{axis}")
        return self._integers(label, (axis,))

    def _integers(self, name: str, values: tuple[int, ...]) -> str:
        return self.constant(name, np.asarray(values, np.int64))

    def constant(self, name: str, values: npt.NDArray[Any] | Array) -> str:
        """See ``Steps``; the same constant under the same name is stored once."""
        from onnx import numpy_helper

        tensor = numpy_helper.from_array(np.asarray(values, order="C"), name)
        if self._initializers.get(name) != tensor:
            name = tensor.name = self._free(name)
            self._initializers[name] = tensor
        return name


def pads(padding: tuple[tuple[int, int], tuple[int, int]]) -> tuple[int, int, int, int]:
    """Zeros as ONNX wants them: all before, then all after."""
    (top, bottom), (left, right) = padding
    return top, left, bottom, right
