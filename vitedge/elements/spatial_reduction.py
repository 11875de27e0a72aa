"""Attention whose keys and values are of fewer, merged tokens (arXiv:2102.12122, SegFormer)."""

from __future__ import annotations

from vitedge.elements.attention import AttentionWeights, attend, by_head, joined
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Convolution, Norm, Reshape


def reduced_attention(
    net: Builder,
    x: Value,
    weights: AttentionWeights,
    name: str,
    *,
    heads: int,
    scale: float,
    grid: tuple[int, int],
    reduction: Convolution,
    norm: Norm,
) -> Value:
    """Tokens ``(rows * columns, dim)`` to tokens.

    Args:
        net: The builder that makes the values.
        x: The tokens, row by row.
        weights: The weights of the attention, without norms.
        name: The name of the block that it belongs to.
        heads: Number of heads.
        scale: Factor on the scores; 1 makes no operator.
        grid: Rows and columns of tokens.
        reduction: Makes fewer tokens of their image.
        norm: The norm of the reduced tokens.
    """
    image = net(f"{name}/image", Reshape((*grid, x.shape[-1])), x)
    few = net(f"{name}.reduction", reduction, image)
    few = net(f"{name}/few", Reshape((few.shape[0] * few.shape[1], few.shape[2])), few)
    few = net(f"{name}.reduction_norm", norm, few)
    q = by_head(net, net(f"{name}.q", weights.q, x), heads, f"{name}/q")
    k = by_head(net, net(f"{name}.k", weights.k, few), heads, f"{name}/k")
    v = by_head(net, net(f"{name}.v", weights.v, few), heads, f"{name}/v")
    mixed = joined(net, attend(net, q, k, v, name, scale=scale), name)
    return net(f"{name}.out", weights.out, mixed)
