"""Images whose channels stay first from one convolution to the next.

The convolutions, pools and resizes of ONNX and OpenVINO take channels first, everything else here
channels last. What lies between two of them is computed as they lie, so that no image is turned
twice, and linear layers there are pointwise convolutions.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import numpy as np

from vitedge.converters.emitter import Emitter
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
from vitedge.network.steps import Tensor
from vitedge.quantize import Recipe


class ChannelsFirst(Emitter[Tensor]):
    """The steps of images that convolutions made, in their layout."""

    keeps_channels_first = True
    """Whether there are such steps; a graph of integers names a range for every tensor as it is."""

    def __init__(self, network: Network, recipe: Recipe, batch: int) -> None:
        super().__init__(network, recipe, batch)
        self._images: frozenset[Value] = frozenset()
        if self.keeps_channels_first:
            self._images = images_of_convolutions(self.network, self.is_convolved)

    def is_convolved(self, layer: Value) -> bool:
        """Whether a convolution, or a linear layer on its channels, is one in the graph."""
        return layer.name not in self.recipe.weights

    @abstractmethod
    def pointwise(self, value: Value, layer: Linear, image: Tensor) -> Tensor:
        """A linear layer on an image with its channels first."""

    @abstractmethod
    def standardized_first(self, value: Value, operator: Standardize, image: Tensor) -> Tensor:
        """Pixels with their channels first, standardized."""

    @abstractmethod
    def with_channels_first(self, x: Tensor, name: str) -> Tensor:
        """An image with its channels first; it is turned at most once."""

    @abstractmethod
    def with_channels_last(self, x: Tensor, name: str) -> Tensor:
        """An image turned back, of which it is known how it lay."""

    def constant_first(self, name: str, values: Array) -> Tensor:
        """A constant for images with their channels first."""
        values = values.reshape((1,) * (3 - values.ndim) + values.shape)
        return self.constant(f"{name}/channels_first", values.transpose(2, 0, 1))

    def step(self, value: Value) -> None:
        """See ``Lowering``."""
        made = self._step_first(value) if value in self._images else None
        if made is None:
            super().step(value)
            return
        self.keep(value, self.with_channels_last(made, value.name), rows=False)
        self._made.add(value)

    def _step_first(self, value: Value) -> Tensor | None:
        """The value with its channels first; None of a step that turns its images itself."""
        first = replace(value, name=f"{value.name}/channels_first")
        match value.operator:
            case Standardize() as operator:
                image = self._first(value, value.inputs[0])
                return self.standardized_first(first, operator, image)
            case Linear() as layer:
                return self.pointwise(value, layer, self._first(value, value.inputs[0]))
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

    def _first(self, value: Value, read: Value) -> Tensor:
        """An input of the value, with its channels first."""
        if not read.is_constant:
            return self.with_channels_first(self.operand(value, read), read.name)
        return self.constant_first(read.name, np.asarray(constant_of(read), np.float32))
