"""Moves keys and values to lie around zero, at no cost.

Softmax does not see a constant added to all keys (it shifts each row of scores), and shares sum to
one, so a constant added to all values is added to what they mix. So both may be moved to where
their mean is zero: their ranges and those of the scores become smallest, and shares that do not
quite sum to one after rounding do no harm. The rewrites ``drop-key-bias`` and ``fold-value-bias``
move the bias alone, and hold where this holds; this needs to know the mean input.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.network.network import Network, Value, with_operators
from vitedge.network.operators import Linear, Operator, Softmax
from vitedge.network.routes import Mix, mixes
from vitedge.quantize.input_statistics import InputStatistics, Statistics
from vitedge.rewrite import CENTRE
from vitedge.rewrite.drop_key_bias import shiftable_keys


class CentreKeysAndValues:
    """Keys and values of mean zero."""

    name = CENTRE

    def apply(self, network: Network, statistics: Statistics) -> tuple[Network, Statistics]:
        """The network with keys and values of mean zero, and statistics of it."""
        inputs = dict(statistics.inputs)
        changed: dict[Value, Operator] = {}
        for mix in mixes(network):
            if isinstance(mix.product.inputs[0].operator, Softmax) and _are_known(mix, statistics):
                _centre_values(mix, changed, inputs, statistics)
        for keys in shiftable_keys(network):
            layer = changed.get(keys, keys.operator)
            if keys.name in statistics.inputs and isinstance(layer, Linear):
                mean = statistics.inputs[keys.name].mean
                changed[keys] = Linear(layer.weight, (-(mean @ layer.weight)).astype(np.float32))
        return with_operators(network, changed), replace(statistics, inputs=inputs)


def _are_known(mix: Mix, statistics: Statistics) -> bool:
    return all(each.name in statistics.inputs for each in (mix.layer, *mix.readers))


def _centre_values(
    mix: Mix,
    changed: dict[Value, Operator],
    inputs: dict[str, InputStatistics],
    statistics: Statistics,
) -> None:
    layer = changed.get(mix.layer, mix.layer.operator)
    assert isinstance(layer, Linear)
    mean = statistics.inputs[mix.layer.name].mean
    moved = (mean @ layer.weight + layer.bias).astype(np.float32)
    changed[mix.layer] = replace(layer, bias=layer.bias - moved)
    moved = moved[mix.places]
    # Layers that read the same input share its statistics.
    shifted = {id(inputs[each.name]): inputs[each.name].shifted(-moved) for each in mix.readers}
    for reader in mix.readers:
        out = changed.get(reader, reader.operator)
        assert isinstance(out, Linear)
        changed[reader] = replace(out, bias=out.bias + moved @ out.weight)
        inputs[reader.name] = shifted[id(inputs[reader.name])]
