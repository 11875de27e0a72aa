"""Convolutions as integer products of their windows (docs/decisions/0066).

ONNX Runtime's ConvInteger is slower than float, and its QLinearConv rounds the output to 8 bits,
too. The windows of a quantized image side by side are bytes, which cost little to copy, and their
product with the weights is the one that linear layers have.
"""

from __future__ import annotations

from itertools import product

from vitedge.converters.onnx.channels_first import OnnxChannelsFirst
from vitedge.network.network import Value
from vitedge.network.operators import Convolution


class OnnxWindows(OnnxChannelsFirst):
    """The windows of an image as rows of a matrix."""

    def windows(self, value: Value, layer: Convolution, quantized: str, zero: str) -> str:
        """The inputs of every output: ``(batch * H * W, rows * columns * channels)``.

        Args:
            value: The convolution.
            layer: Its operator, of one group.
            quantized: uint8 ``(batch, H, W, channels)``.
            zero: The zero point, which is what padding holds.
        """
        name, (height, width, _) = value.name, value.shape
        rows, columns, channels, _ = layer.weight.shape
        padded = self._padded(quantized, layer, zero, f"{name}/padded")
        (down, across), axes = layer.strides, self._integers("image_axes", (1, 2))
        steps = self._integers(f"image_steps/{down}x{across}", layer.strides)
        parts = []
        for row, column in product(range(rows), range(columns)):
            begin, end = (row, column), (row + down * height, column + across * width)
            limits = [
                self._integers(f"image_places/{place[0]},{place[1]}", place)
                for place in (begin, end)
            ]
            label = f"{name}/window/{row},{column}"
            parts.append(self._node("Slice", [padded, *limits, axes, steps], label))
        joined = self._node("Concat", parts, f"{name}/windows", axis=3)
        shape = (self.batch * height * width, rows * columns * channels)
        return self.reshape(joined, shape, f"{name}/window_rows")

    def _padded(self, quantized: str, layer: Convolution, zero: str, name: str) -> str:
        (top, bottom), (left, right) = layer.padding
        sizes = (0, top, left, 0, 0, bottom, right, 0)
        if not any(sizes):
            return quantized
        return self._node("Pad", [quantized, self._integers(f"{name}/sizes", sizes), zero], name)
