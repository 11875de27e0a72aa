"""An MLP with a depthwise convolution over its hidden tokens (SegFormer, arXiv:2105.15203)."""

from __future__ import annotations

from vitedge.network.kinds import Activation
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Activate, Convolution, Linear, Reshape


def mix_mlp(
    net: Builder,
    x: Value,
    fc1: Linear,
    depthwise: Convolution,
    fc2: Linear,
    name: str,
    *,
    grid: tuple[int, int],
    activation: Activation,
) -> Value:
    """Tokens ``(rows * columns, dim)`` to tokens; the convolution tells them where they are."""
    hidden = net(f"{name}.fc1", fc1, x)
    flat = hidden.shape
    hidden = net(f"{name}/hidden_image", Reshape((*grid, flat[-1])), hidden)
    hidden = net(f"{name}.depthwise", depthwise, hidden)
    hidden = net(f"{name}/hidden_tokens", Reshape(flat), hidden)
    hidden = net(f"{name}.depthwise/{activation}", Activate(activation), hidden)
    return net(f"{name}.fc2", fc2, hidden)
