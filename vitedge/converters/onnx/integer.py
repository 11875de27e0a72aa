"""The nodes of an ONNX file whose every tensor is quantized, for NPUs.

Standard QuantizeLinear and DequantizeLinear pairs stand around each node, those that only move
numbers included, which is how execution providers are told of integers (ONNX Runtime's QDQ form).
Norms and GELU are single nodes: taken apart they lose their accuracy, or their place, on NPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.metadata import LOGITS_SCALE_KEY, LOGITS_ZERO_POINT_KEY
from vitedge.converters.integer_emitter import IntegerEmitter, Ranges
from vitedge.converters.onnx.emitter import OnnxEmitter
from vitedge.converters.onnx.nodes import pads
from vitedge.network.kinds import NormKind
from vitedge.network.network import Network, Value
from vitedge.network.numerics import as_root_mean_square
from vitedge.network.operators import (
    Activate,
    Array,
    Convolution,
    Linear,
    Norm,
    Product,
    Standardize,
)
from vitedge.quantize import IntegerWeight, Range, Recipe

# The first opset whose QuantizeLinear makes uint16, and its IR. ONNX Runtime 1.20 reads both.
_OPSET, _IR_VERSION = 21, 10

# Nodes that move numbers, choose among them or mix neighbours: what they give has the range of what
# they take.
_MOVING = ("Reshape", "Transpose", "Slice", "Split", "Gather", "MaxPool", "AveragePool", "Resize")

_PIXELS = Range(0.0, 255.0)


class OnnxIntegerEmitter(IntegerEmitter[str], OnnxEmitter):
    """The steps as nodes between DequantizeLinear and QuantizeLinear.

    Tensors are the names of dequantized ones.
    """

    keeps_channels_first = False
    multiplies = False
    cuts_into_outputs = False

    def __init__(self, network: Network, recipe: Recipe, batch: int) -> None:
        super().__init__(network, recipe, batch)
        self.ranges = Ranges(recipe.tensors)
        self._range_of: dict[str, Range] = {}
        self._requantized: dict[tuple[str, Range], str] = {}
        self._floats: dict[str, npt.NDArray[Any]] = {}

    def range_of(self, x: str) -> Range:
        """See ``IntegerEmitter``."""
        return self._range_of[x]

    def emit(self) -> Any:
        """The finished model; pixels are uint8, and its main output uint16 or, if narrow, uint8.

        A file names the scale of one output, so all others are floats.
        """
        from onnx import TensorProto

        (output, logits), *others = self.lower(self._dequantize("pixels", _PIXELS)).items()
        last = self._range_of[logits]
        self._add("QuantizeLinear", [logits, *self._grid(last)], [output], output)
        for name, made in others:
            self._add("Identity", [made], [name], name)
        given = TensorProto.UINT8 if last.bits == 8 else TensorProto.UINT16
        model = self.model(TensorProto.UINT8, given, _OPSET, _IR_VERSION)
        for shown in model.graph.output:
            if shown.name != output:
                shown.type.tensor_type.elem_type = TensorProto.FLOAT
        scale, zero = last.scale_and_zero_point()
        model.metadata_props.add(key=LOGITS_SCALE_KEY, value=repr(scale))
        model.metadata_props.add(key=LOGITS_ZERO_POINT_KEY, value=str(zero))
        return model

    def linears(self, layers: dict[str, Linear], x: str) -> str:
        """See ``Steps``; one layer at a time."""
        ((name, layer),) = layers.items()
        x = self.as_range(x, self.recipe.range_read(name, self._range_of[x]), f"{name}/input")
        weight = self.recipe.weights[name]
        inputs = [
            x,
            self._dequantized(f"{name}.weight", weight.values, weight.scale, axis=1),
            self._integer_bias(name, x, weight, layer.bias),
        ]
        return self._node("Gemm", inputs, name)

    def standardize(self, value: Value, operator: Standardize, image: str) -> str:
        """See ``Steps``; where no layer takes it in, as padded ones cannot, in 16 bits."""
        name = f"{value.inputs[0].name}/scaled"
        self.ranges[name] = Range.symmetric(1 / min(operator.std), 16)
        return super().standardize(value, operator, image)

    def convolution(self, value: Value, layer: Convolution, x: str) -> str:
        """See ``Steps``."""
        name, weight = value.name, self.recipe.weights[value.name]
        x = self.with_channels_first(self.convolved(value, x), name)
        self.ranges[f"{name}/channels_first"] = self.ranges[name]
        rows, columns, part, outputs = layer.weight.shape
        stored = weight.values.reshape(rows, columns, part, outputs).transpose(3, 2, 0, 1)
        inputs = [
            x,
            self._dequantized(f"{name}.weight", stored, weight.scale, axis=0),
            self._integer_bias(name, x, weight, layer.bias),
        ]
        strides, padding = layer.strides, pads(layer.padding)
        return self._of_image(
            "Conv", inputs, name, group=layer.groups, pads=padding, strides=strides
        )

    def _integer_bias(self, name: str, x: str, weight: IntegerWeight, bias: Array) -> str:
        """A bias in steps of both scales' product."""
        scale, _ = self._range_of[x].scale_and_zero_point()
        steps = np.float32(scale) * weight.scale
        limits = np.iinfo(np.int32)
        whole = np.rint(bias / steps.astype(np.float64)).clip(limits.min, limits.max)
        return self._dequantized(f"{name}.bias", whole.astype(np.int32), steps, axis=0)

    def product(self, value: Value, product: Product, a: str, b: str) -> str:
        """See ``Steps``."""
        return super().product(value, product, *self.operands(value, a, b))

    def activate(self, value: Value, activation: Activate, x: str) -> str:
        """See ``Steps``."""
        return super().activate(value, activation, self.entering(value, x))

    def norm(self, value: Value, norm: Norm, x: str) -> str:
        """See ``Steps``."""
        name, norm = value.name, as_root_mean_square(norm)
        if norm.kind is NormKind.LAYER:
            beta = self.ranges.get(f"{name}/shifted") or self.ranges.get(f"{name}/scaled")
            # One node makes what recipes call centred, scaled and shifted.
            self.ranges[name] = beta or self.ranges[name]
        else:
            self._lay_down_root_mean_square(name)
        return super().norm(value, norm, x)

    def _lay_down_root_mean_square(self, name: str) -> None:
        largest = self.ranges[f"{name}/variance"].high
        peak = max(self.ranges[name].high, 1.0) ** 2
        self.ranges |= {
            f"{name}/square": Range.symmetric(largest * peak, 16),
            f"{name}/mean_square": Range.symmetric(largest, 16),
            f"{name}/eps": Range.symmetric(largest, 16),
            f"{name}/root": Range.symmetric(float(np.sqrt(largest)), 16),
            f"{name}/normed": self.ranges[name],
        }

    def concatenate(self, value: Value, parts: list[str], axis: int) -> str:
        """See ``Steps``; parts and whole have one range."""
        covered = self.ranges[value.name]
        parts = [self.as_range(each, covered, f"{each}/as_part") for each in parts]
        return super().concatenate(value, parts, axis)

    # --- single nodes

    def _node_many(
        self, operator: str, inputs: Sequence[str], outputs: list[str], name: str, **attributes: Any
    ) -> list[str]:
        free = [self._free(output) for output in outputs]
        made = [f"{output}/float" for output in free]
        self._add(operator, inputs, made, free[0] if outputs == [name] else name, **attributes)
        finished = []
        for output, tensor, raw in zip(outputs, free, made, strict=True):
            moved = self._range_of[inputs[0]] if operator in _MOVING else None
            finished.append(self._pair(raw, moved or self.ranges[output], tensor))
        return finished

    def _pair(self, x: str, covered: Range, name: str) -> str:
        """A quantization and back."""
        quantized = f"{name}/integers"
        self._add("QuantizeLinear", [x, *self._grid(covered)], [quantized], f"{name}/quantize")
        return self._dequantize(quantized, covered, name)

    def _dequantize(self, quantized: str, covered: Range, name: str = "") -> str:
        name = name or f"{quantized}/float"
        self._add("DequantizeLinear", [quantized, *self._grid(covered)], [name], f"{name}/back")
        self._range_of[name] = covered
        return name

    def as_range(self, x: str, covered: Range | None, name: str) -> str:
        """See ``IntegerEmitter``."""
        if covered is None or self._range_of[x] == covered:
            return x
        key = (x, covered)
        if key not in self._requantized:
            self._requantized[key] = self._pair(x, covered, self._free(name))
        return self._requantized[key]

    def _grid(self, covered: Range) -> list[str]:
        """Scale and zero point as constants."""
        scale, zero = covered.scale_and_zero_point()
        dtype = np.uint8 if covered.bits == 8 else np.uint16
        label = f"grid/{covered.low:.9g}/{covered.high:.9g}/{covered.bits}"
        return [
            super().constant(f"{label}/scale", np.asarray(scale, np.float32)),
            super().constant(f"{label}/zero", np.asarray(zero, dtype)),
        ]

    def _dequantized(self, name: str, values: npt.NDArray[Any], scale: Array, *, axis: int) -> str:
        plain = super().constant
        inputs = [
            plain(f"{name}/integers", values),
            plain(f"{name}/scale", scale),
            plain(f"{name}/zero", np.zeros(len(scale), values.dtype)),
        ]
        self._add("DequantizeLinear", inputs, [name], name, axis=axis)
        return name

    def constant(self, name: str, values: npt.NDArray[Any]) -> str:
        """See ``Steps``; floats become integers of 16 bits."""
        if values.dtype != np.float32:
            return super().constant(name, values)
        known = self._floats.get(name)
        if known is None or not np.array_equal(known, values):
            self._floats[name] = values
            name = self._free(name)
            largest = float(np.abs(values).max()) or 1.0
            covered = Range.symmetric(largest, 16)
            scale, zero = covered.scale_and_zero_point()
            integers = (np.rint(values / scale) + zero).clip(0, 65535).astype(np.uint16)
            self._dequantize(super().constant(f"{name}/integers", integers), covered, name)
        return name
