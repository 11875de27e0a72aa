"""Drops k's bias, which the softmax does not see.

With query ``q`` and k's bias ``b``, every score of that query grows by the same amount::

    q · (k_j + b)  =  q · k_j  +  q · b

and softmax ignores what is common to a row. It holds where k reaches the scores through moves
alone: it is neither normalised nor turned by its position. On the way to the softmax scores may be
added to, and multiplied by what is the same for all keys.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from vitedge.network.channels import Uses
from vitedge.network.network import Network, Value, with_operators
from vitedge.network.operators import Add, Constant, Linear, Multiply, Operator
from vitedge.network.routes import keys_layer
from vitedge.network.structure import Attention, attentions


class DropKeyBias:
    """No bias on k."""

    name = "drop-key-bias"
    order = 40
    default = True

    def apply(self, network: Network) -> Network:
        """See the module's docstring."""
        dropped: dict[Value, Operator] = {}
        for value in shiftable_keys(network):
            if isinstance(value.operator, Linear) and np.any(value.operator.bias):
                layer = value.operator
                dropped[value] = replace(layer, bias=np.zeros_like(layer.bias))
        return with_operators(network, dropped)


def shiftable_keys(network: Network) -> tuple[Value, ...]:
    """The linear layers that make keys to all of which a constant may be added."""
    uses = Uses.of(network)
    found = []
    for attention in attentions(network):
        layer = keys_layer(attention.scores, uses)
        if layer is not None and _sees_differences_alone(attention, uses):
            found.append(layer)
    return tuple(found)


def _sees_differences_alone(attention: Attention, uses: Uses) -> bool:
    """Whether what is common to all scores of a row reaches the softmax, and nothing else, so."""
    path = [attention.scores, *attention.between, attention.shares]
    return all(uses.sole_reader(value) is reader for value, reader in pairwise(path)) and all(
        map(_keeps_rows_level, attention.between)
    )


def _keeps_rows_level(value: Value) -> bool:
    """Whether a row of equal numbers added to what it reads is one in what it makes."""
    match value.operator:
        case Add():
            return True
        case Multiply():
            constants = [each.operator for each in value.inputs if each.is_constant]
            return all(isinstance(each, Constant) and _is_level(each) for each in constants)
        case _:
            return False


def _is_level(constant: Constant) -> bool:
    values = constant.values
    return not values.shape or bool((values == values[..., :1]).all())


PLUGIN = DropKeyBias()
