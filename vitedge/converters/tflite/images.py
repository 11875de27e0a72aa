"""Operators that slide over images or resize them, in TFLite."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.converters.tflite.graph import TFLiteOperators
from vitedge.converters.tflite.window_parts import is_cut, is_depthwise, window_parts
from vitedge.network.evaluate import windows
from vitedge.network.network import Value
from vitedge.network.operators import (
    Array,
    Convolution,
    Pool,
    PoolKind,
    Resize,
    ResizeKind,
)
from vitedge.targets.precisions import Precision

# DEQUANTIZE reads float16 since this version.
_DEQUANTIZE_FLOAT16 = 3

# RESIZE_* know of centres at a half since this version.
_RESIZE_HALF_PIXEL = 3

# What TFLite calls padding that it finds itself, and none at all.
_SAME, _VALID = 0, 1

_NO_PADDING = ((0, 0), (0, 0))

# CONV_2D reads per-channel int8 weights under float inputs since this version.
_OF_INTEGER_WEIGHTS = 5


class TFLiteImages(TFLiteOperators):
    """Convolutions, pools and resizes of TFLite."""

    version_of_convolution = 1
    """The least that has its type of numbers; of pools likewise."""
    version_of_pool = 1

    def convolution(self, value: Value, layer: Convolution, x: int) -> int:
        """See ``Steps``; where each channel is a group of its own, it is depthwise."""
        is_float = not self.recipe.tensors and value.name not in self.recipe.weights
        if is_float and is_cut(layer):
            return self._in_parts(value, layer, x)
        return self.slid(value, layer, x, *self.convolution_arrays(value, layer))

    def convolution_arrays(self, value: Value, layer: Convolution) -> tuple[int, int]:
        """Weight and bias as the operator takes them; it quantizes the input of integer weights."""
        integers = self.recipe.weights.get(value.name)
        if integers is not None:
            rows, columns, part, outputs = layer.weight.shape
            shape = (outputs, rows, columns, part)
            weight = self.model.weight(f"{value.name}.weight", integers, shape)
            return weight, self.constant(f"{value.name}.bias", layer.bias)
        return self._float_arrays(value.name, layer)

    def _float_arrays(self, name: str, layer: Convolution) -> tuple[int, int]:
        order = (2, 0, 1, 3) if is_depthwise(layer) else (3, 0, 1, 2)
        stored = self.weight(layer.weight.transpose(order), f"{name}.weight")
        return stored, self.constant(f"{name}.bias", layer.bias)

    def slid(self, value: Value, layer: Convolution, x: int, weight: int, bias: int) -> int:
        """The convolution itself, of arrays that lie in the file."""
        same = _is_same(value, layer.weight.shape[:2], layer.strides, layer.padding)
        if not same:
            x = self._padded(x, layer.padding, 0.0, value.name)
        padding = _SAME if same else _VALID
        return self._window_slid(value, layer, [x, weight, bias], value.name, padding)

    def _window_slid(
        self, value: Value, layer: Convolution, inputs: list[int], name: str, padding: int
    ) -> int:
        options = {"padding": padding, **_strides(layer.strides)}
        depthwise = is_depthwise(layer)
        is_integer = not self.recipe.tensors and value.name in self.recipe.weights
        if depthwise:
            options |= {"depthMultiplier": layer.weight.shape[-1] // layer.groups}
        kind = "Depthwise" if depthwise else ""
        return self.model.operator(
            "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
            inputs,
            (self.batch, *value.shape),
            name=name,
            options={"table": f"{kind}Conv2DOptions", **options},
            version=_OF_INTEGER_WEIGHTS if is_integer else self.version_of_convolution,
        )

    def _in_parts(self, value: Value, layer: Convolution, x: int) -> int:
        """A depthwise convolution as the sum of those with parts of its window."""
        x = self._padded(x, layer.padding, 0.0, value.name)
        parts = list(window_parts(*layer.weight.shape[:2]))
        height, width, _ = value.shape
        bias, made = layer.bias, None
        for number, part in enumerate(parts):
            name = f"{value.name}/window{number}"
            begin, size = part.of_image((height, width), layer.strides)
            seen = self._cut_out(x, begin, size, name)
            rows = slice(part.top, part.top + part.height)
            columns = slice(part.left, part.left + part.width)
            only = replace(layer, weight=layer.weight[rows, columns], bias=bias)
            inputs = [seen, *self._float_arrays(name, only)]
            found = self._window_slid(value, only, inputs, name, _VALID)
            is_last = number == len(parts) - 1
            label = value.name if is_last else f"{name}/sum"
            made = found if made is None else self.binary("ADD", made, found, label)
            bias = np.zeros_like(bias)
        assert made is not None
        return made

    def _cut_out(self, x: int, begin: tuple[int, int], size: tuple[int, int], name: str) -> int:
        """Some rows and columns of an image."""
        batch, *sides, channels = self.model.shape(x)
        if list(size) == sides:
            return x
        shape = (batch, *size, channels)
        inputs = [x, self.integers((0, *begin, 0)), self.integers(shape)]
        options = {"table": "SliceOptions"}
        return self.model.operator("SLICE", inputs, shape, name=f"{name}/image", options=options)

    def pool(self, value: Value, pool: Pool, x: int) -> int:
        """See ``Steps``; zeros beside the image count in TFLite, where they are operators."""
        same = _is_same(value, pool.window, pool.strides, pool.padding)
        largest = pool.kind is PoolKind.MAX
        if not same:
            fill = self.least(x) if largest else 0.0
            x = self._padded(x, pool.padding, fill, value.name)
        options = {
            "table": "Pool2DOptions",
            "padding": _SAME if same else _VALID,
            "filterHeight": pool.window[0],
            "filterWidth": pool.window[1],
            **_strides(pool.strides),
        }
        pooled = self.model.operator(
            "MAX_POOL_2D" if largest else "AVERAGE_POOL_2D",
            [x],
            (self.batch, *value.shape),
            name=value.name,
            options=options,
            version=self.version_of_pool,
        )
        if same or largest or pool.padding == _NO_PADDING:
            return pooled
        ones = np.ones((1, *value.inputs[0].shape[:2], 1), np.float32)
        inside = windows(ones, pool.window, pool.strides, pool.padding, 0.0).mean(axis=(-1, -2))
        share = self.constant(f"{value.name}/inside", (1 / inside).astype(np.float32))
        return self.binary("MUL", pooled, share, f"{value.name}/of_image")

    def _padded(
        self, x: int, padding: tuple[tuple[int, int], tuple[int, int]], fill: float, name: str
    ) -> int:
        """An image with so much beside it on each side."""
        if padding == _NO_PADDING:
            return x
        batch, height, width, channels = self.model.shape(x)
        label = f"{name}/padded"
        amounts = self.constant(f"{label}/by", np.asarray(((0, 0), *padding, (0, 0)), np.int32))
        shape = (batch, height + sum(padding[0]), width + sum(padding[1]), channels)
        if fill == 0:
            options = {"table": "PadOptions"}
            return self.model.operator("PAD", [x, amounts], shape, name=label, options=options)
        value = self.padding_value(x, fill, f"{label}/value")
        options = {"table": "PadV2Options"}
        return self.model.operator("PADV2", [x, amounts, value], shape, name=label, options=options)

    def least(self, x: int) -> float:
        """The smallest number that a tensor can hold."""
        return float(np.finfo(np.float32).min)

    def padding_value(self, x: int, fill: float, name: str) -> int:
        """A number in the type of a tensor."""
        return self.constant(name, np.asarray([fill], np.float32))

    def interpolated(self, value: Value, resize: Resize, x: int) -> int:
        """See ``Emitter``."""
        nearest = resize.kind is ResizeKind.NEAREST
        corners = resize.kind is ResizeKind.BILINEAR_CORNERS
        table = "ResizeNearestNeighborOptions" if nearest else "ResizeBilinearOptions"
        return self.model.operator(
            "RESIZE_NEAREST_NEIGHBOR" if nearest else "RESIZE_BILINEAR",
            [x, self.integers((resize.height, resize.width))],
            (self.batch, *value.shape),
            name=value.name,
            options={"table": table, "alignCorners": corners, "halfPixelCenters": not corners},
            version=_RESIZE_HALF_PIXEL,
        )

    def weight(self, values: Array, name: str) -> int:
        """A float weight: stored in half but in fp32 files, and widened when the file is loaded.

        So it is in int8 files, for the layers that stay float there. Biases and positions are
        float32 everywhere: they weigh nothing and meet the residual stream as they are.
        """
        if self.recipe.precision is Precision.FP32:
            return self.constant(name, values)
        return self.model.operator(
            "DEQUANTIZE",
            [self.constant(f"{name}/float16", values.astype(np.float16))],
            values.shape,
            name=name,
            options={"table": "DequantizeOptions"},
            version=_DEQUANTIZE_FLOAT16,
        )


def _strides(strides: tuple[int, int]) -> dict[str, int]:
    return {"strideH": strides[0], "strideW": strides[1]}


def _is_same(
    value: Value,
    window: tuple[int, int],
    strides: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]],
) -> bool:
    """Whether it is padded, just as TFLite finds padding itself."""
    image = value.inputs[0].shape
    sides = zip(image[:2], value.shape[:2], window, strides, padding, strict=True)
    for size, made, each, stride, given in sides:
        total = max((made - 1) * stride + each - size, 0)
        if made != -(-size // stride) or given != (total // 2, total - total // 2):
            return False
    return padding != _NO_PADDING
