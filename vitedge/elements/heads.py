"""Makes logits of the pooled vector."""

from __future__ import annotations

from collections.abc import Iterable

from vitedge.network.kinds import Activation
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Activate, Linear


def classified(
    net: Builder,
    x: Value,
    last: Linear,
    hidden: Iterable[Linear] = (),
    activation: Activation = Activation.TANH,
) -> Value:
    """A vector to logits, by way of hidden layers that ``activation`` follows."""
    for index, layer in enumerate(hidden):
        name = f"head_hidden.{index}"
        x = net(f"{name}/{activation}", Activate(activation), net(name, layer, x))
    return net("head", last, x)
