"""Which convolutions ONNX Runtime computes faster in integers, shape by shape (decision 0066).

    python benchmarks/convolutions.py [pointwise] [dense] [depthwise] [strided]

Each line is one shape, its forms run in turns on one thread: milliseconds of the processor's time
(medians), and what that is of the float convolution's. A pointwise layer, or a pair that widens
fourfold and narrows again, stands between two depthwise convolutions, so what turning the image
costs is counted; others are chains of three, or one with a stride. ``--exact`` takes the product of
processors without VNNI.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

_WARM_UP, _SECONDS_EACH, _LEAST = 3, 0.15, 9
_STEP = np.float32(0.03)


@dataclass(frozen=True)
class Layer:
    """One convolution: kernel, channels, stride and groups."""

    kernel: int
    inputs: int
    outputs: int
    stride: int = 1
    groups: int = 1

    @property
    def settings(self) -> dict[str, Any]:
        """The attributes of ONNX's Conv; an image keeps its size, but for the stride."""
        pad = (self.kernel - self.stride + 1) // 2 if self.kernel > self.stride else 0
        sides = {"pads": [pad] * 4, "strides": [self.stride] * 2}
        return {**sides, "group": self.groups, "kernel_shape": [self.kernel] * 2}


@dataclass
class Graph:
    """An ONNX graph of one image."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    random: Any = field(default_factory=lambda: np.random.default_rng(0))

    def constant(self, values: Any) -> str:
        """A new constant."""
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, operator: str, *inputs: str, outputs: int = 1, **settings: Any) -> list[str]:
        """A new node."""
        made = [f"{operator}{len(self.nodes)}_{number}" for number in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, made, **settings))
        return made

    def weight(self, layer: Layer) -> tuple[Any, Any, Any]:
        """Float weights, their integers and the scale of each output."""
        shape = (layer.outputs, layer.inputs // layer.groups, layer.kernel, layer.kernel)
        weight = self.random.standard_normal(shape).astype(np.float32)
        weight /= np.float32(np.prod(shape[1:]) ** 0.5)
        scale = np.abs(weight).max((1, 2, 3)) / np.float32(127)
        return weight, np.rint(weight / scale[:, None, None, None]).astype(np.int8), scale

    def float_convolution(self, x: str, layer: Layer) -> str:
        """A Conv of floats."""
        inputs = self.constant(self.weight(layer)[0]), self._zeros(layer)
        return self.node("Conv", x, *inputs, **layer.settings)[0]

    def quantized_convolution(self, x: str, layer: Layer) -> str:
        """Q/DQ around a Conv, of which ONNX Runtime makes one QLinearConv."""
        _, integers, scale = self.weight(layer)
        weight = self._dequantized(integers, scale, np.int8)
        bias = self._dequantized(np.zeros(layer.outputs), scale * _STEP, np.int32)
        x = self._rounded(x)
        return self._rounded(self.node("Conv", x, weight, bias, **layer.settings)[0])

    def integer_convolution(self, x: str, layer: Layer) -> str:
        """A ConvInteger, whose input is quantized when it runs."""
        _, integers, scale = self.weight(layer)
        weight = self.constant((integers.astype(np.int16) + 128).astype(np.uint8))
        x, step, zero = self.node("DynamicQuantizeLinear", x, outputs=3)
        middle = self.constant(np.uint8(128))
        product = self.node("ConvInteger", x, weight, zero, middle, **layer.settings)[0]
        return self._made_float(product, step, scale[:, None, None], layer, (-1, 1, 1))

    def product_of_windows(self, x: str, layer: Layer, side: int) -> str:
        """The windows of an image that is quantized when it runs, side by side, in one product."""
        _, integers, scale = self.weight(layer)
        settings, (rows, columns) = layer.settings, [layer.kernel] * 2
        pad, stride = settings["pads"][0], layer.stride
        size = (side + 2 * pad - layer.kernel) // stride + 1
        x = self.node("Transpose", x, perm=[0, 2, 3, 1])[0]
        x, step, zero = self.node("DynamicQuantizeLinear", x, outputs=3)
        x = self.node("Pad", x, self.shape(0, pad, pad, 0, 0, pad, pad, 0), zero)[0]
        axes, steps = self.shape(1, 2), self.shape(stride, stride)
        parts = [
            self.node(
                "Slice",
                x,
                self.shape(row, column),
                self.shape(row + stride * size, column + stride * size),
                axes,
                steps,
            )[0]
            for row in range(rows)
            for column in range(columns)
        ]
        joined = self.node("Concat", *parts, axis=3)[0]
        inputs = layer.kernel**2 * layer.inputs
        joined = self.node("Reshape", joined, self.shape(size * size, inputs))[0]
        matrix = self.constant(integers.transpose(2, 3, 1, 0).reshape(inputs, -1))
        zeros = self.constant(np.zeros(layer.outputs, np.int8))
        product = self.node("MatMulInteger", joined, matrix, zero, zeros)[0]
        made = self._made_float(product, step, scale, layer, (-1,))
        return self.image(made, (1, size, size, layer.outputs))

    def shape(self, *numbers: int) -> str:
        """A constant of whole numbers."""
        return self.constant(np.asarray(numbers, np.int64))

    def matrix_product(self, x: str, layer: Layer, integer: bool) -> str:
        """A pointwise layer on rows of channels: a Gemm, or a product of integers."""
        weight, integers, scale = self.weight(layer)
        if not integer:
            matrix = self.constant(weight[:, :, 0, 0].T)
            return self.node("Gemm", x, matrix, self._zeros(layer))[0]
        x, step, zero = self.node("DynamicQuantizeLinear", x, outputs=3)
        matrix = self.constant(integers[:, :, 0, 0].T)
        zeros = self.constant(np.zeros(layer.outputs, np.int8))
        product = self.node("MatMulInteger", x, matrix, zero, zeros)[0]
        return self._made_float(product, step, scale, layer, (-1,))

    def rows(self, x: str, shape: Sequence[int]) -> str:
        """The image with its channels last, as rows."""
        turned = self.node("Transpose", x, perm=[0, 2, 3, 1])[0]
        return self.node("Reshape", turned, self.constant(np.asarray(shape, np.int64)))[0]

    def image(self, x: str, shape: Sequence[int]) -> str:
        """Rows as the image that they were."""
        apart = self.node("Reshape", x, self.constant(np.asarray(shape, np.int64)))[0]
        return self.node("Transpose", apart, perm=[0, 3, 1, 2])[0]

    def session(self, output: str, shape: Sequence[int], exact: bool) -> Any:
        """A session on one thread."""
        taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        given = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "forms", [taken], [given], self.constants)
        opsets = [helper.make_opsetid("", 20)]
        model = helper.make_model(graph, ir_version=9, opset_imports=opsets)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        if exact:
            options.add_session_config_entry("session.x64quantprecision", "1")
        bytes_of_it, engine = model.SerializeToString(), ["CPUExecutionProvider"]
        return onnxruntime.InferenceSession(bytes_of_it, options, providers=engine)

    def _made_float(
        self, product: str, step: str, scale: Any, layer: Layer, shape: tuple[int, ...]
    ) -> str:
        wide = self.node("Cast", product, to=TensorProto.FLOAT)[0]
        steps = self.node("Mul", step, self.constant(scale))[0]
        scaled = self.node("Mul", wide, steps)[0]
        bias = np.zeros(layer.outputs, np.float32).reshape(shape)
        return self.node("Add", scaled, self.constant(bias))[0]

    def _rounded(self, x: str) -> str:
        step, zero = self.constant(_STEP), self.constant(np.uint8(128))
        quantized = self.node("QuantizeLinear", x, step, zero)[0]
        return self.node("DequantizeLinear", quantized, step, zero)[0]

    def _dequantized(self, values: Any, scale: Any, dtype: Any) -> str:
        zeros = np.zeros(len(scale), dtype)
        stored = (self.constant(each) for each in (values.astype(dtype), scale, zeros))
        return self.node("DequantizeLinear", *stored, axis=0)[0]

    def _zeros(self, layer: Layer) -> str:
        return self.constant(np.zeros(layer.outputs, np.float32))


def chain(form: str, layers: Sequence[Layer], side: int, exact: bool) -> tuple[Any, Any]:
    """A session of convolutions with a ReLU behind each, and its input."""
    graph, x = Graph(), "x"
    for layer in layers:
        match form:
            case "float":
                x = graph.float_convolution(x, layer)
            case "QLinearConv":
                x = graph.quantized_convolution(x, layer)
                # Something in float between the two, as a GELU or a sum is.
                x = graph.node("Mul", x, graph.constant(np.ones(1, np.float32) * 1.01))[0]
            case "ConvInteger":
                x = graph.integer_convolution(x, layer)
            case "windows":
                x = graph.product_of_windows(x, layer, side)
        x = graph.node("Relu", x)[0]
    return _opened(graph, x, (1, layers[0].inputs, side, side), exact)


def between(form: str, layers: Sequence[Layer], side: int, exact: bool) -> tuple[Any, Any]:
    """A session of pointwise layers between two depthwise convolutions, and its input."""
    graph, first, last = Graph(), layers[0].inputs, layers[-1].outputs
    x = graph.float_convolution("x", Layer(3, first, first, groups=first))
    if form != "float":
        x = graph.rows(x, (side * side, first))
    for layer in layers:
        if form == "float":
            x = graph.float_convolution(x, layer)
        else:
            x = graph.matrix_product(x, layer, form == "MatMulInteger")
        x = graph.node("Relu", x)[0]
    if form != "float":
        x = graph.image(x, (1, side, side, last))
    x = graph.float_convolution(x, Layer(3, last, last, groups=last))
    return _opened(graph, x, (1, first, side, side), exact)


def _opened(graph: Graph, x: str, shape: Sequence[int], exact: bool) -> tuple[Any, Any]:
    return graph.session(x, shape, exact), graph.random.standard_normal(shape).astype(np.float32)


def medians(forms: dict[str, tuple[Any, Any]]) -> dict[str, float]:
    """Milliseconds of the processor's time for each form, taken in turns."""
    for session, image in list(forms.values()) * _WARM_UP:
        session.run(None, {"x": image})
    taken: dict[str, list[float]] = {form: [] for form in forms}
    until = time.process_time() + _SECONDS_EACH * len(forms)
    while time.process_time() < until or min(map(len, taken.values())) < _LEAST:
        for form, (session, image) in forms.items():
            started = time.process_time()
            session.run(None, {"x": image})
            taken[form].append(time.process_time() - started)
    return {form: statistics.median(each) * 1000 for form, each in taken.items()}


def _pointwise() -> list[tuple[str, int, list[Layer]]]:
    shapes = [(56, (32, 64, 96)), (28, (64, 96, 128, 192)), (14, (96, 128, 192, 256, 384))]
    cases = []
    for side, widths in (*shapes, (7, (256, 512))):
        for width in widths:
            pair = [Layer(1, width, 4 * width), Layer(1, 4 * width, width)]
            cases += [(f"{width}", side, [Layer(1, width, width)])]
            cases += [(f"{width} and {4 * width}", side, pair)]
    return cases


def _chains(kernel: int, shapes: Sequence[tuple[int, int]], *, depthwise: bool) -> list[Any]:
    return [
        (f"{kernel}x{kernel} {width}", side, [Layer(kernel, width, width, 1, groups)] * 3)
        for side, width in shapes
        for groups in (width if depthwise else 1,)
    ]


_DENSE = [(112, 16), (56, 32), (56, 64), (28, 64), (28, 128), (14, 256), (37, 384), (7, 512)]
_STRIDED = [
    (224, Layer(3, 3, 32, 2)),
    (112, Layer(3, 32, 64, 2)),
    (28, Layer(3, 128, 256, 2)),
    (56, Layer(2, 96, 192, 2)),
    (224, Layer(4, 3, 64, 4)),
    (224, Layer(16, 3, 384, 16)),
]


def main() -> None:
    """Prints a line for each shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = ["pointwise", "dense", "depthwise", "strided"]
    parser.add_argument("kinds", nargs="*", help=", ".join(kinds))
    parser.add_argument("--exact", action="store_true", help="as without VNNI")
    asked = parser.parse_args()
    in_chains: dict[str, list[Any]] = {
        "dense": _chains(3, _DENSE, depthwise=False),
        "depthwise": _chains(3, [(56, 64), (28, 128), (14, 384)], depthwise=True)
        + _chains(7, [(28, 128), (14, 256)], depthwise=True),
        "strided": [
            (f"{e.kernel}x{e.kernel}/{e.stride} {e.inputs} to {e.outputs}", side, [e])
            for side, e in _STRIDED
        ],
    }
    for kind in asked.kinds or kinds:
        is_pointwise = kind == "pointwise"
        forms = ["float", "Gemm", "MatMulInteger"] if is_pointwise else ["float", "QLinearConv"]
        forms += ["ConvInteger", "windows"] if kind in ("dense", "strided") else []
        make = between if is_pointwise else chain
        for name, side, layers in _pointwise() if is_pointwise else in_chains[kind]:
            found = medians({form: make(form, layers, side, asked.exact) for form in forms})
            shares = ", ".join(
                f"{form} {taken:.3f} ms ({taken / found['float']:.2f})"
                for form, taken in found.items()
            )
            one = layers[0]
            inputs = one.kernel**2 * one.inputs // one.groups
            gain = inputs * one.outputs / (inputs + one.outputs)
            told = f", inputs x outputs / (inputs + outputs) {gain:.0f}"
            print(f"{kind} {side}x{side}, {name}{told}: {shares}", flush=True)


if __name__ == "__main__":
    main()
