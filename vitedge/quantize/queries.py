"""Queries and keys in a basis that is easier to round, where both are rounded.

A score is ``q · k``. Rounding ``q`` in steps of ``s`` adds ``s² |k|² / 12`` to its variance, and
rounding ``k`` likewise, so a few large channels of either make all scores coarse. The basis of
``rewrite.balance_queries`` is best by what the weights suggest; it is taken where the measured
numbers say so too.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vitedge.network.network import Network, Value, with_operators
from vitedge.network.operators import Array, Linear, Operator
from vitedge.network.routes import Meeting, meetings
from vitedge.quantize.input_statistics import Statistics
from vitedge.rewrite import BALANCE_QUERIES
from vitedge.rewrite.balance_queries import balanced_layers

# Another basis must halve the noise of the scores, as a smoothing exponent must.
_WORTHWHILE = 0.5


class BalanceWorthwhileQueries:
    """Queries and keys in another basis wherever that is worthwhile."""

    name = BALANCE_QUERIES

    def apply(self, network: Network, statistics: Statistics) -> tuple[Network, Statistics]:
        """The rewritten network; no linear layer's input changes."""
        changed: dict[Value, Operator] = {}
        for meeting in meetings(network):
            known = {meeting.queries.name, meeting.keys.name} <= statistics.inputs.keys()
            if meeting.heads and known:
                balanced = balanced_layers(meeting)
                plain = {each: each.operator for each in balanced}
                noise = _noise(meeting, plain, statistics)
                if _noise(meeting, balanced, statistics) < _WORTHWHILE * noise:
                    changed |= balanced
        return with_operators(network, changed), statistics


def _noise(meeting: Meeting, layers: Mapping[Value, Operator], statistics: Statistics) -> float:
    """The error that rounding queries and keys adds to the scores, in some unit."""
    queries, keys = (
        _made(layers[each], statistics.inputs[each.name].rows)
        for each in (meeting.queries, meeting.keys)
    )
    return _step(queries) ** 2 * _energy(keys) + _step(keys) ** 2 * _energy(queries)


def _made(layer: Operator, x: Array) -> Array:
    assert isinstance(layer, Linear)
    made: Array = x @ layer.weight + layer.bias
    return made


def _step(x: Array) -> float:
    return float(x.max(initial=0.0) - x.min(initial=0.0))


def _energy(x: Array) -> float:
    return float(np.square(x).sum() / max(len(x), 1))
