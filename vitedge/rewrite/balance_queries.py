"""Balances q and k of each head (see ``balanced_pairs``).

A score is ``(x W_q)(y W_k)ᵀ``, so ``W_q A`` and ``W_k A⁻ᵀ`` give the same one. It serves targets
that round queries and keys; where they stay float nothing is gained, so it is applied only when
asked for. It holds where both reach the scores through moves alone: not where they are normalised
or turned by their positions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitedge.network.network import Network, Value, with_operators
from vitedge.network.operators import Linear, Operator
from vitedge.network.routes import Channels, Meeting, channels, meetings
from vitedge.rewrite.balanced_pairs import balancing, gram, on_one_core


class BalanceQueries:
    """Queries and keys that are easy to round."""

    name = "balance-queries"
    order = 81
    default = False

    def apply(self, network: Network) -> Network:
        """See the module's docstring."""
        changed: dict[Value, Operator] = {}
        with on_one_core():
            for meeting in meetings(network):
                if meeting.heads:
                    changed |= balanced_layers(meeting)
        return with_operators(network, changed)


def balanced_layers(meeting: Meeting) -> dict[Value, Linear]:
    """The layers of queries and keys in their best basis; their heads do not overlap."""
    q, k = meeting.queries.operator, meeting.keys.operator
    assert isinstance(q, Linear)
    assert isinstance(k, Linear)
    query, key = _copied(q), _copied(k)
    for number, (of_queries, of_keys) in enumerate(meeting.heads):
        left, right = channels(of_queries), channels(of_keys)
        change, inverse = balancing(gram(query.weight[:, left]), gram(key.weight[:, right]), number)
        _change(query, left, change)
        _change(key, right, inverse.T)
    return {meeting.queries: query, meeting.keys: key}


def _copied(layer: Linear) -> Linear:
    return Linear(layer.weight.copy(), layer.bias.copy())


def _change(layer: Linear, part: Channels, change: npt.NDArray[np.float64]) -> None:
    layer.weight[:, part] = (layer.weight[:, part] @ change).astype(np.float32)
    layer.bias[part] = (layer.bias[part] @ change).astype(np.float32)


PLUGIN = BalanceQueries()
