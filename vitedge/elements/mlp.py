"""The MLP of a block: two linear layers with a non-linearity between them."""

from __future__ import annotations

from vitedge.network.kinds import Activation
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Activate, Linear, Norm


def mlp(
    net: Builder,
    x: Value,
    fc1: Linear,
    fc2: Linear,
    name: str,
    *,
    activation: Activation,
    norm: Norm | None = None,
) -> Value:
    """Tokens ``(tokens, dim)`` to tokens; ``norm`` is of what is hidden, as in BEiT-3."""
    hidden = net(f"{name}.fc1", fc1, x)
    hidden = net(f"{name}.fc1/{activation}", Activate(activation), hidden)
    if norm is not None:
        hidden = net(f"{name}.hidden_norm", norm, hidden)
    return net(f"{name}.fc2", fc2, hidden)
