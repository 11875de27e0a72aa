"""Multiplies before an image is enlarged, and once where two layers follow one another.

What moves vectors of channels, or blends them by shares that add up to one, may stand before a
linear layer or behind it: ``S x W + b = S (x W + b)``. Where ``S`` enlarges, the layer multiplies
less before it. A layer of values side by side is a sum of layers, of which each may stand before
what enlarges its value, and a layer of a layer is one layer::

    (x W + b) V + c  =  x (W V) + (b V + c)

The decoder of SegFormer (arXiv:2105.15203) enlarges three images to the size of the fourth, puts
them side by side and multiplies all of that, which is half of the model's work. Here each image is
multiplied in its own size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from vitedge.network.channels import Uses, passes_vectors
from vitedge.network.network import Network, Value, macs_of, rebuilt
from vitedge.network.operators import (
    Add,
    Concatenate,
    Linear,
    Operator,
    Reshape,
    Resize,
    Take,
    Transpose,
)

# The multiplications that take as long as writing one number.
_WRITING = 25

# The least share of a layer's multiplications that is worth another graph than the model's own.
_WORTHWHILE = 0.1


class MultiplySooner:
    """Layers in front of what enlarges, and one layer in place of two."""

    name = "multiply-sooner"
    order = 15
    default = True

    def apply(self, network: Network) -> Network:
        """See the module's docstring."""
        uses, ways = Uses.of(network), _Ways()

        def change(value: Value, inputs: tuple[Value, ...]) -> Value | None:
            made = value if inputs == value.inputs else replace(value, inputs=inputs)
            if isinstance(value.operator, Linear):
                fastest = ways.fastest(inputs[0], value.operator, value.name)
                multiplications = macs_of(value)
                if multiplications - fastest.multiplications >= _WORTHWHILE * multiplications:
                    made = fastest.value
            is_alone = uses.sole_reader(value) is not None
            (ways.alone.add if is_alone else ways.alone.discard)(made)
            return made

        return rebuilt(network, change)


@dataclass(frozen=True)
class _Way:
    """One way to compute a linear layer of a value.

    Attributes:
        value: The value that it makes.
        multiplications: The multiplications of all that it adds to the network, less those of all
            that nobody needs then.
        time: The time of the same, in multiplications.
    """

    value: Value
    multiplications: int = 0
    time: int = 0

    def without(self, value: Value) -> _Way:
        """The way, if nobody else needs a value."""
        multiplications = self.multiplications - macs_of(value)
        return _Way(self.value, multiplications, self.time - _time(value))


class _Ways:
    """Finds the fastest ways to compute linear layers.

    Attributes:
        alone: Values that one other reads, and nobody else: with another way there, they are gone.
    """

    def __init__(self) -> None:
        self.alone: set[Value] = set()

    def fastest(self, x: Value, layer: Linear, name: str) -> _Way:
        """The fastest way to compute a layer of each vector of ``x``, as wide as it reads.

        Args:
            x: ``(..., vectors * inputs)``: vectors that stand side by side count one by one.
            layer: The layer.
            name: Its name.
        """
        found = []
        if x in self.alone:
            found = [way.without(x) for way in self._around(x, layer, name)]
        return min([*found, self._direct(x, layer, name)], key=lambda way: way.time)

    def _direct(self, x: Value, layer: Linear, name: str) -> _Way:
        """The layer behind all that makes ``x``."""
        inputs, outputs = layer.weight.shape
        way = _Way(x)
        if x.shape[-1] == inputs:
            return self._then(name, layer, way)
        vectors = x.shape[-1] // inputs
        apart = Reshape((*x.shape[:-1], vectors, inputs))
        beside = Reshape((*x.shape[:-1], vectors * outputs))
        way = self._then(name, layer, self._then(f"{name}/vectors", apart, way))
        return self._then(f"{name}/side_by_side", beside, way)

    def _around(self, x: Value, layer: Linear, name: str) -> Iterator[_Way]:
        """The ways that do without ``x``."""
        width = layer.weight.shape[0]
        match x.operator:
            case Linear() as first if x.shape[-1] == width:
                yield self.fastest(x.inputs[0], first.followed_by(layer), name)
            case Concatenate(axis=axis) if axis == len(x.shape) - 1 and x.shape[-1] == width:
                yield self._sum(x, layer, name)
            case Reshape() | Transpose() | Take() | Resize() if passes_vectors(x, width):
                sooner = self.fastest(x.inputs[0], layer, name)
                yield self._then(x.name, _of_outputs(x, layer), sooner)

    def _sum(self, x: Value, layer: Linear, name: str) -> _Way:
        """The sum of the layers of all values that stand side by side in ``x``."""
        sizes = [part.shape[-1] for part in x.inputs]
        weights = np.split(layer.weight, np.cumsum(sizes)[:-1])
        biases = [layer.bias, *(np.zeros_like(layer.bias) for _ in sizes[1:])]
        total, *others = [
            self.fastest(part, Linear(weight, bias), f"{name}/part{number}")
            for number, (part, weight, bias) in enumerate(
                zip(x.inputs, weights, biases, strict=True)
            )
        ]
        for number, way in enumerate(others, 1):
            total = self._then(f"{x.name}/sum{number}", Add(), total, way)
        return total

    def _then(self, name: str, operator: Operator, *ways: _Way) -> _Way:
        """A step behind others."""
        made = Value(name, operator, tuple(way.value for way in ways))
        self.alone.add(made)
        return _Way(
            made,
            sum(way.multiplications for way in ways) + macs_of(made),
            sum(way.time for way in ways) + _time(made),
        )


def _of_outputs(move: Value, layer: Linear) -> Operator:
    """The operator that moves the vectors of a layer's outputs as ``move`` does its inputs."""
    if not isinstance(move.operator, Reshape):
        return move.operator
    inputs, outputs = layer.weight.shape
    return Reshape((*move.shape[:-1], move.shape[-1] // inputs * outputs))


def _time(value: Value) -> int:
    """The time that a step takes, in multiplications."""
    if isinstance(value.operator, Reshape):
        return 0
    return macs_of(value) + _WRITING * math.prod(value.shape)


PLUGIN = MultiplySooner()
