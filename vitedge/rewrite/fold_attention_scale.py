"""Folds the factor on the attention scores into q.

``scale (q · k) = (scale q) · k``: the scale goes into q's weight and bias or, where q is
normalised, into gamma and beta of its norm; learned queries take it themselves. Between those and
the scores there may be moves, multiplications by constants and sums, such as rotary positions: all
of them are linear, so a factor passes through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from vitedge.network.channels import Uses
from vitedge.network.network import Network, Value, rebuilt
from vitedge.network.operators import (
    Add,
    Array,
    Concatenate,
    Constant,
    Linear,
    Mean,
    Multiply,
    Norm,
    Operator,
    Reshape,
    Take,
    Transpose,
)
from vitedge.network.structure import Attention, attentions


class FoldAttentionScale:
    """No multiplication between the score product and the softmax."""

    name = "fold-attention-scale"
    order = 50
    default = True

    def apply(self, network: Network) -> Network:
        """See the module's docstring."""
        return fold(network, kept=lambda _: 1.0)


def fold(network: Network, *, kept: Callable[[float], float]) -> Network:
    """The network whose factors on scores are what ``kept`` makes of them; q takes the rest.

    A factor of 1 is no longer an operator.
    """
    uses = Uses.of(network)
    changed: dict[Value, Operator] = {}
    left: dict[Value, float] = {}
    for attention in attentions(network):
        writers = _writers(attention.scores, uses)
        for value in _scalings(attention, uses) if writers else ():
            factor = _factor(value)
            keeps = kept(factor)
            if factor / keeps == 1 != factor:
                continue
            left[value] = keeps
            for writer in writers:
                operator = changed.get(writer, writer.operator)
                changed[writer] = _scaled(operator, factor / keeps)

    def change(value: Value, inputs: tuple[Value, ...]) -> Value | None:
        if value in left:
            return _rescaled(value, inputs, left[value], uses)
        return Value(value.name, changed[value], inputs) if value in changed else None

    return rebuilt(network, change)


def _scalings(attention: Attention, uses: Uses) -> Iterator[Value]:
    """The multiplications by one number that scores pass first."""
    value = attention.scores
    for each in attention.between:
        factors = [part for part in each.inputs if part.is_constant]
        is_scaling = isinstance(each.operator, Multiply) and factors[0].shape == ()
        if not is_scaling or uses.sole_reader(value) is not each:
            return
        yield each
        value = each


def _factor(value: Value) -> float:
    (factor,) = (each.operator for each in value.inputs if isinstance(each.operator, Constant))
    return float(factor.values)


def _rescaled(value: Value, inputs: tuple[Value, ...], factor: float, uses: Uses) -> Value:
    """The same multiplication by another factor; if that is 1, the value that it reads."""
    live, known = sorted(
        zip(inputs, value.inputs, strict=True), key=lambda pair: pair[1].is_constant
    )
    if factor == 1:
        return live[0]
    is_own = uses.sole_reader(known[1]) is value
    name = known[1].name if is_own else f"{value.name}/factor"
    number = Value(name, Constant(np.asarray(factor, np.float64)))
    is_second = value.inputs[1] is known[1]
    return Value(value.name, value.operator, (live[0], number) if is_second else (number, live[0]))


def _writers(scores: Value, uses: Uses) -> tuple[Value, ...]:
    """The layers, norms and constants that make queries; empty where others do, or read them."""
    writers: list[Value] = []
    passed: dict[Value, None] = {}
    unseen = [scores.inputs[0]]
    while unseen:
        value = unseen.pop()
        if value in passed or value in writers:
            continue
        match value.operator:
            case Linear() | Norm() | Constant():
                writers.append(value)
                continue
            case Reshape() | Transpose() | Take() | Concatenate() | Mean() | Add():
                unseen += value.inputs
            case Multiply():
                unseen += [each for each in value.inputs if not each.is_constant]
                if not any(each.is_constant for each in value.inputs):
                    return ()
            case _:
                return ()
        passed[value] = None
    inside = passed.keys() | {scores}
    is_factor = any(
        isinstance(reader.operator, Multiply)
        for writer in writers
        if writer.is_constant
        for reader in uses.readers[writer]
    )
    alone = not is_factor and all(
        value not in uses.shown and inside.issuperset(uses.readers[value])
        for value in (*passed, *writers)
    )
    return tuple(writers) if alone and scores.inputs[1] not in {*passed, *writers} else ()


def _scaled(operator: Operator, scale: float) -> Operator:
    def scaled(array: Array) -> Array:
        return (array * np.float64(scale)).astype(array.dtype)

    match operator:
        case Linear(weight=weight, bias=bias):
            return Linear(scaled(weight), scaled(bias))
        case Constant(values=values):
            return Constant(scaled(values))
        case Norm() as norm:
            return replace(norm, gamma=scaled(norm.gamma), beta=scaled(norm.beta))
        case _:
            raise AssertionError(f"{operator} makes no queries")


PLUGIN = FoldAttentionScale()
