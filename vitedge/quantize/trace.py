"""The network in NumPy, showing every number that an all-integer graph holds.

``evaluate`` shows the inputs of linear layers alone. A graph without any float operator rounds
every tensor in between as well, so calibration has to see, and simulation to replace, each of them
under the name that converters give it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vitedge.network.evaluate import computed
from vitedge.network.kinds import Activation, NormKind
from vitedge.network.network import Network, Value
from vitedge.network.numerics import activate, as_root_mean_square, softmax
from vitedge.network.operators import (
    Activate,
    Array,
    Constant,
    Convolution,
    Linear,
    Multiply,
    Norm,
    Pixels,
    Pool,
    Product,
    Reshape,
    Resize,
    Softmax,
    Take,
    Transpose,
)
from vitedge.network.structure import readers
from vitedge.quantize.widths import (
    ends,
    is_narrow,
    is_narrow_convolution,
    mixes_shares,
    operand_names,
)


class Kind(StrEnum):
    """The role of a tensor for the value that it belongs to."""

    RESULT = "result"
    """What the value's operator makes."""
    STEP = "step"
    """Something on the way there."""
    DEVIATION = "deviation"
    """Of a norm: a variance or the inverse of its root, far apart from token to token."""
    SHARES = "shares"
    """What softmax or a gate makes: within 0..1."""
    SIGNED = "signed"
    """What tanh makes: within -1..1."""
    LEFT = "left"
    """The first factor of a product, made narrow to be read."""
    RIGHT = "right"
    """The second factor of a product, likewise."""


_BOUNDED = {Activation.TANH: Kind.SIGNED, Activation.SIGMOID: Kind.SHARES}
"""Activations whose results lie in a range of their own."""

_AT_ENDS = frozenset((Activation.SIGMOID, Activation.TANH, Activation.RELU))
"""Activations that every format has in 16 bits, for maps that end in one."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of an all-integer graph.

    Attributes:
        name: The name that converters use.
        value: The value of the network that it belongs to.
        kind: The kind of tensor.
        narrow: Whether a product reads or makes it, where integer units take 8 bits.
    """

    name: str
    value: Value
    kind: Kind
    narrow: bool


Entering: TypeAlias = Callable[[str, Array], Array]
"""Called with a linear layer's name and input; returns what is gone on with."""

Made: TypeAlias = Callable[[Tensor, Array], Array]
"""Called with a tensor and its numbers ``(batch, ...)``; returns what is gone on with."""


def trace(
    network: Network, images: npt.NDArray[Any], made: Made, entering: Entering
) -> dict[str, Array]:
    """Each output by name, ``(N, ...)``, as an all-integer graph computes them.

    Args:
        network: The model, already rewritten.
        images: Pixels ``(N, H, W, C)``.
        made: Called with each tensor that an operator makes; those that only move numbers, or
            choose among them (reshape, transpose, take, pool, resize), make none.
        entering: Called with each linear layer's name and input.
    """
    steps = _Steps(network, made, entering)
    unread = Counter(each for value in network.values for each in value.inputs)
    unread.update(network.outputs.values())
    held: dict[Value, Array] = {}
    for value in network.values:
        held[value] = steps.step(value, [held[each] for each in value.inputs], images)
        for each in value.inputs:
            unread[each] -= 1
            if not unread[each]:
                held.pop(each, None)
    return {name: held[value] for name, value in network.outputs.items()}


class _Steps:
    """The operators; norms and gates are taken apart as formats without such operators have them.

    Args:
        network: The model.
        made: See ``trace``.
        entering: See ``trace``.
    """

    def __init__(self, network: Network, made: Made, entering: Entering) -> None:
        self._made, self._entering = made, entering
        self._readers, self._operand_names = readers(network), operand_names(network)
        self._narrow: set[Value] = set()

    def step(self, value: Value, inputs: list[Array], images: npt.NDArray[Any]) -> Array:
        match value.operator:
            case Pixels():
                self._narrow.add(value)  # they are 8-bit integers
                return computed(value, inputs, images)
            case Constant():
                return computed(value, inputs, images)
            case Reshape() | Transpose() | Take() | Pool() | Resize():
                self._note(value, value.inputs[0] in self._narrow)
                return computed(value, inputs, images)
            case Linear(weight=weight, bias=bias):
                made: Array = self._entering(value.name, inputs[0]) @ weight + bias
                return self._result(value, made, narrow=is_narrow(value, self._readers))
            case Convolution():
                return self._convolution(value, inputs[0], images)
            case Norm() as norm:
                return self._norm(value, as_root_mean_square(norm), inputs[0])
            case Activate(kind=activation):
                return self._activate(value, activation, inputs[0])
            case Product() as product:
                return self._product(value, product, *inputs)
            case Softmax():
                # Eight bits for shares of 1/197 are a step or two.
                return self._tensor(value, softmax(*inputs), kind=Kind.SHARES)
            case _:
                scales = isinstance(value.operator, Multiply) and _is_scaling(value)
                narrow = scales and not self._narrow.isdisjoint(value.inputs)
                return self._result(value, computed(value, inputs, images), narrow=narrow)

    def _note(self, value: Value, narrow: bool) -> None:
        if narrow:
            self._narrow.add(value)

    def _result(self, value: Value, x: Array, *, narrow: bool) -> Array:
        self._note(value, narrow)
        return self._tensor(value, x, kind=Kind.RESULT, narrow=narrow)

    def _tensor(
        self,
        value: Value,
        x: Array,
        part: str = "",
        *,
        kind: Kind = Kind.STEP,
        narrow: bool = False,
    ) -> Array:
        return self._made(Tensor(f"{value.name}{part}", value, kind, narrow), x)

    def _convolution(self, value: Value, x: Array, images: npt.NDArray[Any]) -> Array:
        narrow = is_narrow_convolution(value, self._readers)
        if narrow != (value.inputs[0] in self._narrow):
            x = self._tensor(value, x, "/input", narrow=narrow)
        return self._result(value, computed(value, [x], images), narrow=narrow)

    def _norm(self, value: Value, norm: Norm, x: Array) -> Array:
        x = self._over_deviation(value, norm, x)
        if not np.all(norm.gamma == 1):
            x = self._tensor(value, x * norm.gamma, "/scaled")
        if np.any(norm.beta != 0):
            x = self._tensor(value, x + norm.beta, "/shifted")
        return x

    def _over_deviation(self, value: Value, norm: Norm, x: Array) -> Array:
        if norm.kind is NormKind.LAYER:
            mean: Array = x.mean(axis=-1, keepdims=True)
            x = self._tensor(value, x - self._tensor(value, mean, "/mean"), "/centred")
        square: Array = x * x
        mean_square: Array = square.mean(axis=-1, keepdims=True)
        variance = self._tensor(value, mean_square, "/variance", kind=Kind.DEVIATION)
        inverse: Array = (1 / np.sqrt(variance + norm.eps)).astype(np.float32)
        inverse = self._tensor(value, inverse, "/inverse", kind=Kind.DEVIATION)
        return self._tensor(value, x * inverse)

    def _activate(self, value: Value, activation: Activation, x: Array) -> Array:
        bounded = _BOUNDED.get(activation)
        if value.inputs[0] not in self._narrow:
            if activation in _AT_ENDS and ends(value, self._readers):
                return self._tensor(value, activate(x, activation), kind=bounded or Kind.RESULT)
            x = self._tensor(value, x, "/input", narrow=True)
        self._narrow.add(value)
        if bounded is not None:
            return self._tensor(value, activate(x, activation), kind=bounded, narrow=True)
        if activation not in (Activation.QUICK_GELU, Activation.SILU):
            return self._result(value, activate(x, activation), narrow=True)
        inner = x
        if activation is Activation.QUICK_GELU:
            inner = self._tensor(value, x * np.float32(1.702), "/scaled", narrow=True)
        gate: Array = np.float32(1) / (np.float32(1) + np.exp(-inner))
        gate = self._tensor(value, gate, "/gate", kind=Kind.SHARES, narrow=True)
        return self._result(value, x * gate, narrow=True)

    def _product(self, value: Value, product: Product, a: Array, b: Array) -> Array:
        left, right = value.inputs
        names = self._operand_names[value]
        shares = mixes_shares(value)
        if left not in self._narrow and not shares:
            a = self._made(Tensor(names[0], value, Kind.LEFT, True), a)
        if right not in self._narrow:
            b = self._made(Tensor(names[1], value, Kind.RIGHT, True), b)
        other = b.swapaxes(-1, -2) if product.transposed else b
        made: Array
        if shares:
            # Where only narrow products are to be had, two of them make a wide one.
            high = np.minimum(np.rint(a * np.float32(256)), np.float32(255)) / np.float32(256)
            coarse = self._tensor(value, high @ other, "_high", narrow=True)
            made = coarse + self._tensor(value, (a - high) @ other, "_low", narrow=True)
        else:
            made = a @ other
        return self._result(value, made, narrow=True)


def _is_scaling(value: Value) -> bool:
    """Whether all numbers of another value are multiplied by one constant number."""
    return any(each.is_constant and not each.shape for each in value.inputs)
