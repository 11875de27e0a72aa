"""Images with their channels first in OpenVINO.

Linear layers between convolutions are pointwise convolutions, of integers too where their input has
a fixed range (docs/decisions/0076).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vitedge.converters.channels_first import ChannelsFirst
from vitedge.converters.openvino.merging import OpenVINOMerging
from vitedge.network.network import Value
from vitedge.network.operators import Convolution, Linear, Standardize
from vitedge.quantize import IntegerWeight, Range


class OpenVINOChannelsFirst(OpenVINOMerging, ChannelsFirst[Any]):
    """The steps of ``ChannelsFirst``."""

    def is_convolved(self, layer: Value) -> bool:
        """See ``ChannelsFirst``."""
        is_static = layer.name in self.recipe.inputs and layer.name not in self.recipe.token_scaled
        return is_static or super().is_convolved(layer)

    def pointwise(self, value: Value, layer: Linear, image: Any) -> Any:
        """See ``ChannelsFirst``."""
        name, integers = value.name, self.recipe.weights.get(value.name)
        if integers is None:
            weight = self._weight(f"{name}.weight", layer.weight.T[:, :, None, None])
        else:
            image = self._quantized(image, self.recipe.inputs[name], name)
            weight = self._integer_weight(integers, name, (1, 1))
        made = self._ops.convolution(
            image, weight, [1, 1], [0, 0], [0, 0], [1, 1], name=f"{name}/product"
        )
        bias = self.constant(f"{name}.bias", layer.bias[:, None, None])
        return self._ops.add(made, bias, name=f"{name}/channels_first")

    def in_integers(self, name: str, layer: Convolution, image: Any) -> tuple[Any, Any]:
        """See ``OpenVINONodes``."""
        image = self._quantized(image, self.recipe.inputs[name], name)
        return image, self._integer_weight(self.recipe.weights[name], name, layer.weight.shape[:2])

    def standardized_first(self, value: Value, operator: Standardize, image: Any) -> Any:
        """See ``ChannelsFirst``."""
        return self._standardized(value, operator, image, (-1, 1, 1))

    def _quantized(self, x: Any, covered: Range, name: str) -> Any:
        # Move the ends so that real 0 is one of the levels, as the recipe's zero point says.
        scale, zero = covered.scale_and_zero_point()
        low = self._scalar(f"{name}/low", -zero * scale)
        high = self._scalar(f"{name}/high", (covered.levels - 1 - zero) * scale)
        return self._ops.fake_quantize(
            x, low, high, low, high, covered.levels, name=f"{name}/quantized"
        )

    def _integer_weight(
        self, weight: IntegerWeight, name: str, window: tuple[int, ...] = ()
    ) -> Any:
        """A weight ``(outputs, inputs, *window)`` of integers, times its scales."""
        rows, outputs = weight.values.shape
        shape = (outputs, rows // math.prod(window), *window)
        outputs_first = weight.values.reshape(*window, *shape[1::-1])
        outputs_first = np.moveaxis(outputs_first, (-1, -2), (0, 1))
        stored = self.constant(f"{name}.weight/int8", outputs_first)
        wide = self._ops.convert(stored, np.float32, name=f"{name}.weight/wide")
        scales = weight.scale.reshape((-1, *(1,) * (len(shape) - 1)))
        scale = self.constant(f"{name}.weight/scale", scales)
        return self._ops.multiply(wide, scale, name=f"{name}.weight")
