"""Attention of several heads (arXiv:1706.03762)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from vitedge.network.network import Builder, Value
from vitedge.network.operators import (
    Constant,
    Linear,
    Multiply,
    Norm,
    Product,
    Reshape,
    Softmax,
    Transpose,
)

Pass: TypeAlias = Callable[[Builder, Value, str], Value]
"""A step that values pass on their way; gets a name for what it makes."""


@dataclass(frozen=True, eq=False)
class AttentionWeights:
    """The parameters of an attention; ``q``, ``k``, ``v`` hold all heads side by side.

    ``inner_norm`` is of what ``out`` reads, all heads side by side (EVA-02, BEiT-3).
    """

    q: Linear
    k: Linear
    v: Linear
    out: Linear
    q_norm: Norm | None = None
    k_norm: Norm | None = None
    inner_norm: Norm | None = None


def attention(
    net: Builder,
    x: Value,
    weights: AttentionWeights,
    name: str,
    *,
    heads: int,
    scale: float,
    turn: Pass | None = None,
    add_to_scores: Pass | None = None,
) -> Value:
    """Tokens ``(..., tokens, dim)`` to tokens; axes before them, such as windows, stand apart.

    Args:
        net: The builder that makes the values.
        x: The value that queries, keys and values are made of.
        weights: Its parameters.
        name: The name of the block that it belongs to.
        heads: Number of heads.
        scale: Factor on the scores; 1 makes no operator.
        turn: The function that queries and keys by head ``(..., heads, tokens, width)`` pass before
            they meet, such as rotary positions; named by the value that it makes.
        add_to_scores: The function that the scores ``(..., heads, tokens, tokens)`` pass, such as a
            position bias; named by the block.
    """
    layers = {"q": weights.q, "k": weights.k, "v": weights.v}
    made = {part: net(f"{name}.{part}", layer, x) for part, layer in layers.items()}
    q, k, v = (by_head(net, each, heads, f"{name}/{part}") for part, each in made.items())
    if weights.q_norm is not None:
        q = net(f"{name}.q_norm", weights.q_norm, q)
    if weights.k_norm is not None:
        k = net(f"{name}.k_norm", weights.k_norm, k)
    if turn is not None:
        q, k = turn(net, q, f"{name}/q/turned"), turn(net, k, f"{name}/k/turned")
    mixed = joined(net, attend(net, q, k, v, name, scale=scale, add_to_scores=add_to_scores), name)
    if weights.inner_norm is not None:
        mixed = net(f"{name}.inner_norm", weights.inner_norm, mixed)
    return net(f"{name}.out", weights.out, mixed)


def attend(
    net: Builder,
    q: Value,
    k: Value,
    v: Value,
    name: str,
    *,
    scale: float,
    add_to_scores: Pass | None = None,
) -> Value:
    """Queries, keys and values by head to mixed values by head; see ``attention``."""
    scores = net(f"{name}/scores", Product(transposed=True), q, k)
    if scale != 1.0:
        factor = net(f"{name}/scaled/by", Constant(np.asarray(scale, np.float64)))
        scores = net(f"{name}/scaled", Multiply(), scores, factor)
    if add_to_scores is not None:
        scores = add_to_scores(net, scores, name)
    shares = net(f"{name}/softmax", Softmax(), scores)
    return net(f"{name}/mixed", Product(), shares, v)


def by_head(net: Builder, x: Value, heads: int, name: str) -> Value:
    """``(..., tokens, heads * width)`` to ``(..., heads, tokens, width)``."""
    *apart, tokens, wide = x.shape
    cut = net(f"{name}/heads", Reshape((*apart, tokens, heads, wide // heads)), x)
    return net(f"{name}/by_head", Transpose(_swapped(len(apart))), cut)


def joined(net: Builder, x: Value, name: str) -> Value:
    """``(..., heads, tokens, width)`` to ``(..., tokens, heads * width)``."""
    *apart, heads, tokens, width = x.shape
    turned = net(f"{name}/joined", Transpose(_swapped(len(apart))), x)
    return net(f"{name}/heads", Reshape((*apart, tokens, heads * width)), turned)


def _swapped(apart: int) -> tuple[int, ...]:
    """The order of axes that swaps heads and tokens, behind axes that stand apart."""
    return (*range(apart), apart + 1, apart, apart + 2)
