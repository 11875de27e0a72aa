"""Leaves out what needs no step: what constants alone make, and moves that undo one another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from vitedge.network.evaluate import computed
from vitedge.network.network import Network, Value, rebuilt
from vitedge.network.operators import Constant, Linear, Pixels, Reshape, Transpose
from vitedge.network.structure import moved

_NO_IMAGE = np.zeros((1, 1, 1, 1), np.float32)


def folded(network: Network, layer: Callable[[str, Linear], Linear]) -> Network:
    """The network without steps that are the same for every image.

    Args:
        network: The network; it is given back where it has no such steps.
        layer: Called with the name of a linear layer on a constant; gives the one to compute with.
    """

    def change(value: Value, inputs: tuple[Value, ...]) -> Value | None:
        fixed = isinstance(value.operator, Constant | Pixels)
        if fixed or not all(each.is_constant for each in inputs):
            return None
        operator = value.operator
        if isinstance(operator, Linear):
            operator = layer(value.name, operator)
        step = Value(value.name, operator, inputs)
        (made,) = computed(step, [computed(each, [], _NO_IMAGE) for each in inputs], _NO_IMAGE)
        return Value(value.name, Constant(made))

    return rebuilt(network, change)


def without_undone_moves(network: Network) -> Network:
    """The network without reshapes and transpositions that bring back what was there before."""

    def change(value: Value, inputs: tuple[Value, ...]) -> Value | None:
        found, moves, read = None, [value], inputs
        while isinstance(moves[-1].operator, Reshape | Transpose):
            (source,) = read
            if source.shape == value.shape and _are_undone(moves, source):
                found = source
            moves.append(source)
            read = source.inputs
        return found

    return rebuilt(network, change)


def _are_undone(moves: Sequence[Value], source: Value) -> bool:
    """Whether each number of the source is in its old place behind these moves, the last first."""
    numbers = before = np.arange(math.prod(source.shape)).reshape(source.shape)
    for move in reversed(moves):
        numbers = moved(move, numbers)
    return np.array_equal(numbers, before)
