"""One block of a transformer: attention, then an MLP, each beside a residual stream."""

from __future__ import annotations

from dataclasses import dataclass

from vitedge.elements.attention import Pass
from vitedge.elements.kinds import NormPosition
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Add, Norm


@dataclass(frozen=True, eq=False)
class BlockParts:
    """The parts of a block.

    Attributes:
        norm1: The norm before the attention.
        attention: Tokens to tokens; named by the block.
        norm2: The norm before the MLP.
        mlp: Tokens to tokens, gated or not; named by the block.
        norms: The place of both norms.
    """

    norm1: Norm
    attention: Pass
    norm2: Norm
    mlp: Pass
    norms: NormPosition = NormPosition.PRE


def block(net: Builder, x: Value, parts: BlockParts, name: str) -> Value:
    """Tokens ``(tokens, dim)`` to tokens."""
    x = _sublayer(net, x, parts.attention, parts.norm1, name, "norm1", "attended", parts.norms)
    return _sublayer(net, x, parts.mlp, parts.norm2, name, "norm2", "out", parts.norms)


def _sublayer(
    net: Builder,
    x: Value,
    inner: Pass,
    norm: Norm,
    name: str,
    norm_name: str,
    sum_name: str,
    norms: NormPosition,
) -> Value:
    read = net(f"{name}.{norm_name}", norm, x) if norms is NormPosition.PRE else x
    made = inner(net, read, name)
    if norms is NormPosition.BRANCH:
        made = net(f"{name}.{norm_name}", norm, made)
    x = net(f"{name}/{sum_name}", Add(), x, made)
    return net(f"{name}.{norm_name}", norm, x) if norms is NormPosition.POST else x
