"""The integers of convolutions."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np

from vitedge.network.network import Network, Value, with_operators
from vitedge.network.operators import Convolution, Operator
from vitedge.quantize import IntegerWeight
from vitedge.quantize.input_statistics import Statistics
from vitedge.quantize.rounding import feedback, output_hessian, round_with_feedback
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
    return {
        value.name: _nearest(layer)
        for value, layer in _convolutions(network)
        if names is None or value.name in names
    }


def rounded_convolutions(
    network: Network, names: Collection[str], statistics: Statistics
) -> tuple[Network, dict[str, IntegerWeight]]:
    """Integers for convolutions, and the network whose biases make up for their mean error.

    Each weight makes up for the errors of those before it, as in linear layers, if the statistics
    know the windows of the convolution.
    """
    found: dict[str, IntegerWeight] = {}
    changed: dict[Value, Operator] = {}
    for value, layer in _convolutions(network):
        if value.name not in names:
            continue
        watched = statistics.windows.get(value.name)
        if watched is None:
            found[value.name] = _nearest(layer)
            continue
        matrix = layer.weight.reshape(-1, layer.weight.shape[-1])
        scale = searched_scale(matrix, INTEGER_LIMITS[_BITS][1])
        known = feedback(output_hessian(watched))
        weight = IntegerWeight(round_with_feedback(matrix, known, scale, bits=_BITS), scale)
        missing = watched.mean @ (matrix - weight.dequantized())
        bias = (layer.bias + missing).astype(np.float32)
        found[value.name], changed[value] = weight, replace(layer, bias=bias)
    return with_operators(network, changed), found


def _convolutions(network: Network) -> Iterator[tuple[Value, Convolution]]:
    for value in network.values:
        if isinstance(value.operator, Convolution):
            yield value, value.operator


def _nearest(layer: Convolution) -> IntegerWeight:
    low, high = INTEGER_LIMITS[_BITS]
    matrix = layer.weight.reshape(-1, layer.weight.shape[-1])
    scale = searched_scale(matrix, high)
    return IntegerWeight(np.rint(matrix / scale).clip(low, high).astype(np.int8), scale)
