"""A gated MLP: one layer's non-linearity multiplies another layer (arXiv:2002.05202)."""

from __future__ import annotations

from vitedge.network.kinds import Activation
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Activate, Linear, Multiply, Norm


def swiglu(
    net: Builder,
    x: Value,
    gate: Linear,
    up: Linear,
    down: Linear,
    name: str,
    *,
    activation: Activation = Activation.SILU,
    norm: Norm | None = None,
) -> Value:
    """Tokens ``(..., dim)`` to tokens: ``down(norm(activation(gate(x)) * up(x)))``.

    Args:
        net: The builder that makes the values.
        x: The tokens.
        gate: The layer whose non-linearity multiplies.
        up: The layer that is multiplied.
        down: The layer from the hidden width back.
        name: The name of the block that it belongs to.
        activation: The non-linearity; the name is for SiLU.
        norm: The norm of the hidden values, as in EVA-02, or None.
    """
    opened = net(f"{name}.gate", gate, x)
    opened = net(f"{name}.gate/{activation}", Activate(activation), opened)
    hidden = net(f"{name}/gated", Multiply(), opened, net(f"{name}.up", up, x))
    if norm is not None:
        hidden = net(f"{name}.hidden_norm", norm, hidden)
    return net(f"{name}.down", down, hidden)
