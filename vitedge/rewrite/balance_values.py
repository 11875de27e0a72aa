"""Balances v and the output projection of each head (see ``balanced_pairs``).

The softmax mixes tokens and leaves channels alone, so a basis change between v and the output
projection passes through it: ``P (x W_v A) (A⁻¹ W_o) = P (x W_v) W_o``. It holds where there are
moves alone besides. The quantizer does it again with what it has measured.
"""

from __future__ import annotations

import numpy as np

from vitedge.network.network import Network, Value, with_operators
from vitedge.network.operators import Linear, Operator
from vitedge.network.routes import Mix, channels, mixes
from vitedge.rewrite.balanced_pairs import balancing, gram, on_one_core


class BalanceValues:
    """Values that are easy to round."""

    name = "balance-values"
    order = 80
    default = True

    def apply(self, network: Network) -> Network:
        """See the module's docstring."""
        changed: dict[Value, Operator] = {}
        with on_one_core():
            for mix in mixes(network):
                if mix.is_one_to_one and len(mix.readers) == 1:
                    _balance(mix, changed)
        return with_operators(network, changed)


def _balance(mix: Mix, changed: dict[Value, Operator]) -> None:
    (reader,) = mix.readers
    v, projection = (changed.get(each, each.operator) for each in (mix.layer, reader))
    assert isinstance(v, Linear)
    assert isinstance(projection, Linear)
    value, bias, out = v.weight.copy(), v.bias.copy(), projection.weight.copy()
    stands_at = np.argsort(mix.places)
    for number, head in enumerate(mix.heads):
        part, rows = channels(head), channels(stands_at[head])
        change, inverse = balancing(gram(value[:, part]), gram(out[rows].T), number)
        value[:, part] = (value[:, part] @ change).astype(np.float32)
        bias[part] = (bias[part] @ change).astype(np.float32)
        out[rows] = (inverse @ out[rows]).astype(np.float32)
    changed[mix.layer] = Linear(value, bias)
    changed[reader] = Linear(out, projection.bias)


PLUGIN = BalanceValues()
