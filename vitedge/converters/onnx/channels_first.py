"""Images whose channels stay first from one convolution to the next.

ONNX's convolutions, pools and resizes take channels first, everything else here channels last.
What lies between two of them is computed as they lie, so that no image is turned twice, and float
linear layers there are pointwise convolutions, which ONNX Runtime computes faster than matrix
products (docs/decisions/0066).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from vitedge.converters.onnx.merging import OnnxMerging
from vitedge.network.channels_first import images_of_convolutions
from vitedge.network.forms import constant_of
from vitedge.network.network import Network, Value
from vitedge.network.operators import (
    Activate,
    Add,
    Array,
    Concatenate,
    Linear,
    Multiply,
    Standardize,
)
from vitedge.quantize import Recipe


class OnnxChannelsFirst(OnnxMerging):
    """The steps of images that convolutions made, in their layout."""

    keeps_channels_first = True
    """Whether there are such steps; a graph of integers names a range for every tensor as it is."""

    def __init__(self, network: Network, recipe: Recipe, batch: int) -> None:
        super().__init__(network, recipe, batch)
        self._images: frozenset[Value] = frozenset()
        if self.keeps_channels_first:
            self._images = images_of_convolutions(
                self.network, lambda layer: layer.name not in recipe.weights
            )

    def stored(self, name: str, values: Array) -> str:
        """A float weight, as the precision stores it."""
        raise NotImplementedError

    def step(self, value: Value) -> None:
        """See ``Lowering``."""
        made = self._step_first(value) if value in self._images else None
        if made is None:
            super().step(value)
            return
        last = self.transpose(made, (0, 2, 3, 1), value.name)
        self._channels_first[last] = made
        self.keep(value, last, rows=False)
        self._made.add(value)

    def _step_first(self, value: Value) -> str | None:
        """The value with its channels first; None of a step that turns its images itself."""
        first = replace(value, name=f"{value.name}/channels_first")
        match value.operator:
            case Standardize() as operator:
                # Three numbers that repeat along the last axis take ONNX Runtime ten times as long.
                image = self._first(value, value.inputs[0])
                return self._standardized(first, operator, image, (-1, 1, 1))
            case Linear() as layer:
                return self._pointwise(value, layer)
            case Activate() as activation:
                return self.activate(first, activation, self._first(value, value.inputs[0]))
            case Add() | Multiply():
                step = self.add if isinstance(value.operator, Add) else self.multiply
                return step(first, *(self._first(value, each) for each in value.inputs))
            case Concatenate():
                parts = [self._first(value, each) for each in value.inputs]
                return self.concatenate(first, parts, 1)
            case _:
                return None

    def _pointwise(self, value: Value, layer: Linear) -> str:
        x = self._first(value, value.inputs[0])
        weight = self.stored(f"{value.name}.weight", layer.weight.T[:, :, None, None])
        bias = self.constant(f"{value.name}.bias", layer.bias)
        return self._node("Conv", [x, weight, bias], f"{value.name}/channels_first")

    def _first(self, value: Value, read: Value) -> str:
        """An input of the value, with its channels first."""
        if not read.is_constant:
            return self._with_channels_first(self.operand(value, read), read.name)
        numbers: Any = constant_of(read).astype(np.float32)
        numbers = numbers.reshape((1,) * (3 - numbers.ndim) + numbers.shape)
        return self.constant(f"{read.name}/channels_first", numbers.transpose(2, 0, 1))
