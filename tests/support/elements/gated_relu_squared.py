"""A gated MLP by the square of a ReLU: an element that is nowhere in the package."""

from __future__ import annotations

from vitedge.network.kinds import Activation
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Activate, Linear, Multiply


def gated_relu_squared(
    net: Builder, x: Value, gate: Linear, up: Linear, down: Linear, name: str
) -> Value:
    """``down(relu(gate(x))² * up(x))``, tokens to tokens."""
    opened = net(f"{name}.gate/relu", Activate(Activation.RELU), net(f"{name}.gate", gate, x))
    squared = net(f"{name}/squared", Multiply(), opened, opened)
    hidden = net(f"{name}/gated", Multiply(), squared, net(f"{name}.up", up, x))
    return net(f"{name}.down", down, hidden)
