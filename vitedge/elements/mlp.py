"""The MLP of a block: two linear layers with a non-linearity between them."""

from __future__ import annotations

from vitedge.network.kinds import Activation
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Activate, Linear


def mlp(
    net: Builder, x: Value, fc1: Linear, fc2: Linear, name: str, *, activation: Activation
) -> Value:
    """Tokens ``(tokens, dim)`` to tokens."""
    hidden = net(f"{name}.fc1", fc1, x)
    hidden = net(f"{name}.fc1/{activation}", Activate(activation), hidden)
    return net(f"{name}.fc2", fc2, hidden)
