"""Moves v's bias through the attention into the bias of the output projection.

Each row of the softmax's result ``P`` sums to one, so with v's bias ``b``::

    P (x W_v + 1 b) W_o + b_o  =  P (x W_v) W_o  +  (b W_o + b_o)

It holds where v reaches the product through moves alone, and linear layers alone read what is
mixed, behind moves.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.network.network import Network, Value, with_operators
from vitedge.network.operators import Linear, Operator, Softmax
from vitedge.network.routes import mixes


class FoldValueBias:
    """No bias on v."""

    name = "fold-value-bias"
    order = 30
    default = True

    def apply(self, network: Network) -> Network:
        """See the module's docstring."""
        changed: dict[Value, Operator] = {}

        def layer_of(value: Value) -> Linear:
            layer = changed.get(value, value.operator)
            assert isinstance(layer, Linear)
            return layer

        for mix in mixes(network):
            layer = layer_of(mix.layer)
            if isinstance(mix.product.inputs[0].operator, Softmax) and np.any(layer.bias):
                bias = layer.bias.astype(np.float64)[mix.places]
                for reader in mix.readers:
                    out = layer_of(reader)
                    moved = bias @ out.weight.astype(np.float64)
                    changed[reader] = Linear(out.weight, (out.bias + moved).astype(np.float32))
                changed[mix.layer] = replace(layer, bias=np.zeros_like(layer.bias))
        return with_operators(network, changed)


PLUGIN = FoldValueBias()
