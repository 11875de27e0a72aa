"""Images with their channels first in ONNX.

Float linear layers between convolutions are pointwise convolutions, which ONNX Runtime computes
faster than matrix products (docs/decisions/0066).
"""

from __future__ import annotations

from vitedge.converters.channels_first import ChannelsFirst
from vitedge.converters.onnx.merging import OnnxMerging
from vitedge.network.network import Value
from vitedge.network.operators import Array, Linear, Standardize


class OnnxChannelsFirst(OnnxMerging, ChannelsFirst[str]):
    """The steps of ``ChannelsFirst``."""

    def stored(self, name: str, values: Array) -> str:
        """A float weight, as the precision stores it."""
        raise NotImplementedError

    def pointwise(self, value: Value, layer: Linear, image: str) -> str:
        """See ``ChannelsFirst``."""
        weight = self.stored(f"{value.name}.weight", layer.weight.T[:, :, None, None])
        bias = self.constant(f"{value.name}.bias", layer.bias)
        return self._node("Conv", [image, weight, bias], f"{value.name}/channels_first")

    def standardized_first(self, value: Value, operator: Standardize, image: str) -> str:
        """See ``ChannelsFirst``."""
        # Three numbers that repeat along the last axis take ONNX Runtime ten times as long.
        return self._standardized(value, operator, image, (-1, 1, 1))
