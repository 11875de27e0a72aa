"""Folds values that are computed from constants alone into constants."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vitedge.network.evaluate import computed
from vitedge.network.network import Network, Value, rebuilt
from vitedge.network.operators import Constant, Linear, Pixels

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
