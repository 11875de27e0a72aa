"""The layers of ONNX, float or with 8-bit products; see ``to_onnx`` for why these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.converters.emitter import part_name
from vitedge.converters.joined import packed_nibbles, side_by_side
from vitedge.converters.onnx.nodes import pads
from vitedge.converters.onnx.windows import OnnxWindows
from vitedge.network.kinds import NormKind
from vitedge.network.network import Value
from vitedge.network.operators import Array, Convolution, Linear, Norm
from vitedge.quantize import IntegerWeight, Range
from vitedge.quantize.ranges import divides_by_largest
from vitedge.targets.precisions import Precision

# Opset 20 has Gelu; IR 9 is what its release of ONNX writes. ONNX Runtime 1.17 and later read both.
_OPSET = 20
_IR_VERSION = 9
# The first with 4-bit integers and scales for groups of them. ONNX Runtime 1.20 reads both.
_OPSET_OF_INT4, _IR_OF_INT4 = 21, 10


class OnnxEmitter(OnnxWindows):
    """The graph of float numbers between linear layers."""

    cuts_into_outputs = True
    """Whether the parts of a Split may be outputs of the file as they are."""

    def emit(self) -> Any:
        """The finished model."""
        from onnx import TensorProto

        for name, made in self.lower("pixels").items():
            if made != name:
                self._add("Identity", [made], [name], name)
        return self.model(TensorProto.FLOAT, TensorProto.FLOAT, *self._versions())

    def _versions(self) -> tuple[int, int]:
        """Opset and IR version: the oldest that have what is used."""
        if self.recipe.precision.row.grouped:
            return _OPSET_OF_INT4, _IR_OF_INT4
        return _OPSET, _IR_VERSION

    def linears(self, layers: dict[str, Linear], x: str) -> str:
        """One matrix product of several linear layers side by side on the same input."""
        name, weight, bias = side_by_side(layers, self.recipe)
        if isinstance(weight, IntegerWeight) and weight.bits == 8:
            return self._int8_product(x, next(iter(layers)), weight, bias, name)
        store = f"{name}.weight"
        stored = (
            self._grouped(store, weight)
            if isinstance(weight, IntegerWeight)
            else self.stored(store, weight)
        )
        return self._node("Gemm", [x, stored, self.constant(f"{name}.bias", bias)], name)

    def split_columns(self, joined: str, values: Sequence[Value]) -> list[str]:
        """See ``Steps``."""
        parts = [part_name(value.name) for value in values]
        label, widths = "+".join(parts), tuple(value.shape[-1] for value in values)
        if len(set(widths)) == 1:
            return self._node_many("Split", [joined], parts, label, axis=1, num_outputs=len(parts))
        sizes = self._integers(f"{label}/sizes", widths)
        return self._node_many("Split", [joined, sizes], parts, label, axis=1)

    def cut(self, parts: Sequence[Value], x: str, axis: int) -> list[str]:
        """See ``Emitter``; parts that are outputs and nothing else have their names at once."""
        names = {value: name for name, value in self.network.outputs.items()}
        are_outputs = names.keys() == set(parts) and not any(self.readers[part] for part in parts)
        if not (are_outputs and self.cuts_into_outputs):
            return super().cut(parts, x, axis)
        label, sizes = self._size_of_parts(parts)
        made = [names[part] for part in parts]
        self._add("Split", [x, sizes], made, label, axis=axis)
        return made

    def convolution(self, value: Value, layer: Convolution, x: str) -> str:
        """See ``Steps``."""
        integers = self.recipe.weights.get(value.name)
        if integers is not None:
            return self._integer_convolution(value, layer, integers, x)
        weight = self.stored(f"{value.name}.weight", layer.weight.transpose(3, 2, 0, 1))
        inputs = [
            self.with_channels_first(x, value.name),
            weight,
            self.constant(f"{value.name}.bias", layer.bias),
        ]
        return self._of_image(
            "Conv",
            inputs,
            value.name,
            group=layer.groups,
            pads=pads(layer.padding),
            strides=layer.strides,
        )

    def _integer_convolution(
        self, value: Value, layer: Convolution, weight: IntegerWeight, x: str
    ) -> str:
        name = value.name
        quantized, scale, zero = self._quantized(x, name)
        windows = self.windows(value, layer, quantized, zero)
        product = self._integer_product(windows, weight, scale, zero, name)
        rows = self._node("Add", [product, self.constant(f"{name}.bias", layer.bias)], name)
        return self.reshape(rows, (self.batch, *value.shape), f"{name}/image")

    def _int8_product(
        self, x: str, first: str, weight: IntegerWeight, bias: Array, name: str
    ) -> str:
        """A product of integers; how ``x`` becomes some, the recipe says of the first layer."""
        static, floor = self.recipe.inputs.get(first), self.recipe.token_scaled.get(first)
        if static is not None and floor is not None:
            return self._token_scaled_product(x, weight, static, floor, bias, name)
        if static is not None:
            return self._static_product(x, weight, static, bias, name)
        return self._dynamic_product(x, weight, bias, name)

    def _static_product(
        self, x: str, weight: IntegerWeight, covered: Range, bias: Array, name: str
    ) -> str:
        """Standard Q/DQ around a Gemm whose output stays float.

        ONNX Runtime makes one QGemm of it, if the bias is an integer too: int32 in steps of both
        scales' product.
        """
        steps = np.float32(covered.scale_and_zero_point()[0]) * weight.scale
        limits = np.iinfo(np.int32)
        whole = np.rint(bias / steps.astype(np.float64)).clip(limits.min, limits.max)
        inputs = [
            self._rounded(x, covered, name),
            self._dequantized(f"{name}.weight", weight.values, weight.scale, axis=1),
            self._dequantized(f"{name}.bias", whole.astype(np.int32), steps, axis=0),
        ]
        return self._node("Gemm", inputs, name)

    def _rounded(self, x: str, covered: Range, name: str) -> str:
        """The input of a product in a range that is known."""
        step, zero = covered.scale_and_zero_point()
        scale = self.constant(f"{name}.x_scale", np.asarray(step, np.float32))
        zero_point = self.constant(f"{name}.x_zero", np.asarray(zero, np.uint8))
        quantized = self._node("QuantizeLinear", [x, scale, zero_point], f"{name}/quantized")
        return self._node("DequantizeLinear", [quantized, scale, zero_point], f"{name}/input")

    def _dequantized(self, name: str, values: npt.NDArray[Any], scale: Array, *, axis: int) -> str:
        zeros = np.zeros(len(scale), values.dtype)
        inputs = [
            self.constant(f"{name}/integers", values),
            self.constant(f"{name}/scale", scale),
            self.constant(f"{name}/zero", zeros),
        ]
        return self._node("DequantizeLinear", inputs, name, axis=axis)

    def _grouped(self, name: str, weight: IntegerWeight) -> str:
        """4-bit weights, which ONNX Runtime multiplies as they are (MatMulNBits)."""
        inputs = [
            self._nibbles(f"{name}/integers", weight.values),
            self.stored(f"{name}/scale", weight.scale),
        ]
        if weight.zero is not None:
            inputs.append(self._nibbles(f"{name}/zero", weight.zero))
        return self._node("DequantizeLinear", inputs, name, axis=0, block_size=weight.group)

    def _nibbles(self, name: str, values: npt.NDArray[np.int8]) -> str:
        """A constant of 4-bit integers."""
        from onnx import TensorProto, helper

        packed, name = packed_nibbles(values).tobytes(), self._free(name)
        self._initializers[name] = helper.make_tensor(
            name, TensorProto.INT4, values.shape, packed, raw=True
        )
        return name

    def _token_scaled_product(
        self,
        x: str,
        weight: IntegerWeight,
        covered: Range,
        floor: float,
        bias: Array,
        name: str,
    ) -> str:
        """Each token over its largest number is quantized, and the product multiplied by it.

        ONNX Runtime makes one QGemm of Q/DQ and the product; MatMulInteger would be three nodes.
        """
        least = self.constant(f"{name}/floor", np.asarray(floor, np.float32))
        axes = self._axis(-1)
        numbers = x if divides_by_largest(covered) else self._node("Abs", [x], f"{name}/size")
        largest = self._node("ReduceMax", [numbers, axes], f"{name}/largest", keepdims=1)
        largest = self._node("Max", [largest, least], f"{name}/divisor")
        quotient = self._node("Div", [x, largest], f"{name}/quotient")
        inputs = [
            self._rounded(quotient, covered, name),
            self._dequantized(f"{name}.weight", weight.values, weight.scale, axis=1),
        ]
        product = self._node("Gemm", inputs, f"{name}/product")
        product = self._node("Mul", [product, largest], f"{name}/scaled_back")
        return self._node("Add", [product, self.constant(f"{name}.bias", bias)], name)

    def _dynamic_product(self, x: str, weight: IntegerWeight, bias: Array, name: str) -> str:
        """One uint8 scale per tensor, when it runs; ONNX Runtime fuses all others."""
        quantized, x_scale, x_zero = self._quantized(x, name)
        product = self._integer_product(quantized, weight, x_scale, x_zero, name)
        return self._node("Add", [product, self.constant(f"{name}.bias", bias)], name)

    def _quantized(self, x: str, name: str) -> list[str]:
        """The tensor in uint8 when it runs, its scale and its zero point."""
        made = [f"{name}/quantized", f"{name}/x_scale", f"{name}/x_zero"]
        return self._node_many("DynamicQuantizeLinear", [x], made, f"{name}/quantize")

    def _integer_product(
        self, quantized: str, weight: IntegerWeight, x_scale: str, x_zero: str, name: str
    ) -> str:
        """MatMulInteger and what makes floats of it, which ONNX Runtime fuses."""
        values = self.constant(f"{name}.weight", weight.values)
        zeros = self.constant(f"{name}.weight_zero", np.zeros(len(weight.scale), np.int8))
        integers = self._node(
            "MatMulInteger", [quantized, values, x_zero, zeros], f"{name}/integers"
        )
        wide = self._node("Cast", [integers], f"{name}/wide", to=1)
        scale = self.constant(f"{name}.scale", weight.scale)
        scales = self._node("Mul", [x_scale, scale], f"{name}/scales")
        return self._node("Mul", [wide, scales], f"{name}/product")

    def norm(self, value: Value, norm: Norm, x: str) -> str:
        """See ``Steps``."""
        name = value.name
        if norm.kind is NormKind.LAYER:
            inputs = [x, self.constant(f"{name}.gamma", norm.gamma)]
            if np.any(norm.beta != 0):
                inputs.append(self.constant(f"{name}.beta", norm.beta))
            return self._node("LayerNormalization", inputs, name, axis=-1, epsilon=norm.eps)
        square = self._node("Mul", [x, x], f"{name}/square")
        reduced, label = "ReduceMean", f"{name}/mean_square"
        if norm.kind is NormKind.L2:
            reduced, label = "ReduceSum", f"{name}/sum_of_squares"
        mean = self._node(reduced, [square, self._axis(-1)], label, keepdims=1)
        eps = self.constant(f"{name}.eps", np.asarray([norm.eps], np.float32))
        root = self._node("Sqrt", [self._node("Add", [mean, eps], f"{name}/eps")], f"{name}/root")
        x = self._node("Div", [x, root], f"{name}/normed")
        if not np.all(norm.gamma == 1):
            gamma = self.constant(f"{name}.gamma", norm.gamma)
            x = self._node("Mul", [x, gamma], f"{name}/scaled")
        if np.any(norm.beta != 0):
            x = self._node("Add", [x, self.constant(f"{name}.beta", norm.beta)], f"{name}/shifted")
        return x

    def stored(self, name: str, values: Array) -> str:
        """Float weights, or scales of 4-bit ones, stored in half but in fp32 files.

        Widened when the session is made. So it is in int8 files, for the layers that stay float
        there. Biases and positions are float32 everywhere: they weigh nothing and meet the residual
        stream as they are.
        """
        if self.recipe.precision is Precision.FP32:
            return self.constant(name, values)
        half = self.constant(f"{name}/float16", values.astype(np.float16))
        return self._node("Cast", [half], name, to=1)
