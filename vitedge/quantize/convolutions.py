"""The integers of convolutions."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from vitedge.network.network import Network
from vitedge.network.operators import Convolution
from vitedge.quantize import IntegerWeight
from vitedge.quantize.weights import searched_scale
from vitedge.rewrite.learnt_grid import INTEGER_LIMITS

_BITS = 8


def convolution_weights(
    network: Network, names: Collection[str] | None = None
) -> dict[str, IntegerWeight]:
    """Integers for convolutions, by their names; for every one if none are given.

    Rows and columns of the window and the channels of a group are the inputs of each output, in
    the order in which ``Convolution.weight`` has them.
    """
    low, high = INTEGER_LIMITS[_BITS]
    found = {}
    for value in network.values:
        is_meant = names is None or value.name in names
        if is_meant and isinstance(value.operator, Convolution):
            weight = value.operator.weight
            matrix = weight.reshape(-1, weight.shape[-1])
            scale = searched_scale(matrix, high)
            integers = np.rint(matrix / scale).clip(low, high).astype(np.int8)
            found[value.name] = IntegerWeight(integers, scale)
    return found
