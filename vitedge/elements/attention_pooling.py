"""Pooling by attention with learned queries (the MAP head of SigLIP; arXiv:1810.00825)."""

from __future__ import annotations

import numpy as np

from vitedge.elements.attention import AttentionWeights, Pass, attend, by_head, joined
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Add, Array, Constant, Norm, Reshape


def attention_pooling(
    net: Builder,
    x: Value,
    probe: Array,
    weights: AttentionWeights,
    name: str,
    *,
    heads: int,
    scale: float,
) -> Value:
    """Tokens ``(tokens, dim)`` to one vector for each learned query, ``(queries, dim)``.

    The queries are the same for every image, so their layer is applied here, once.

    Args:
        net: The builder that makes the values.
        x: The value that keys and values are made of.
        probe: The learned queries before their layer, ``(queries, dim)``.
        weights: The parameters of the attention, without norms of queries and keys.
        name: The name of the pooling.
        heads: Number of heads.
        scale: Factor on the scores; 1 makes no operator.
    """
    made = probe.astype(np.float64) @ weights.q.weight + weights.q.bias
    split = made.astype(np.float32).reshape(len(probe), heads, -1).transpose(1, 0, 2)
    q = net(f"{name}.queries", Constant(np.ascontiguousarray(split)))
    k, v = (net(f"{name}.{part}", getattr(weights, part), x) for part in ("k", "v"))
    k, v = by_head(net, k, heads, f"{name}/k"), by_head(net, v, heads, f"{name}/v")
    mixed = attend(net, q, k, v, name, scale=scale)
    return net(f"{name}.out", weights.out, joined(net, mixed, name))


def pooling_head(
    net: Builder, x: Value, pool: Pass, norm: Norm | None, mlp: Pass, name: str
) -> Value:
    """Tokens ``(tokens, dim)`` to a vector: attention pooling, then an MLP beside a residual.

    Args:
        net: The builder that makes the values.
        x: The value that the pooling reads.
        pool: Tokens to one vector ``(1, dim)``, as ``attention_pooling`` makes it.
        norm: The norm before the MLP, or None.
        mlp: Tokens to tokens.
        name: The name of the pooling.
    """
    x = pool(net, x, name)
    read = x if norm is None else net(f"{name}.norm", norm, x)
    x = net(f"{name}/out", Add(), x, mlp(net, read, name))
    return net(f"{name}/vector", Reshape((x.shape[0] * x.shape[1],)), x)
