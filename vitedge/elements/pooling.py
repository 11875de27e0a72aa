"""Makes one vector of tokens, which a head reads."""

from __future__ import annotations

from vitedge.elements.kinds import Pooling
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Concatenate, Mean, Norm, Reshape, Take


def pooled(net: Builder, x: Value, pooling: Pooling, prefix_tokens: int) -> Value:
    """Tokens ``(tokens, dim)`` to a vector.

    Args:
        net: The builder that makes the values.
        x: All tokens: prefix, then patches.
        pooling: The tokens that make the vector, and how.
        prefix_tokens: The number of tokens that stand before the patches.
    """
    tokens, dim = x.shape
    match pooling:
        case Pooling.CLASS:
            return _leading(net, x, 1)
        case Pooling.DISTILLED:
            return _leading(net, x, 2)
        case Pooling.MEAN:
            return _mean_of_patches(net, x, prefix_tokens)
        case Pooling.CLASS_AND_MEAN:
            both = _leading(net, x, 1), _mean_of_patches(net, x, prefix_tokens)
            return net("pooled", Concatenate(0), *both)
        case Pooling.FLATTEN:
            return net("pooled", Reshape((tokens * dim,)), x)


def normed(net: Builder, x: Value, norm: Norm) -> Value:
    """The norm of each pooled vector; where there are several, they stand behind one another."""
    if x.shape == norm.gamma.shape:
        return net("pooled_norm", norm, x)
    (dim,) = norm.gamma.shape
    parts = net("pooled/parts", Reshape((x.shape[0] // dim, dim)), x)
    return net("pooled/normed", Reshape(x.shape), net("pooled_norm", norm, parts))


def _leading(net: Builder, x: Value, count: int) -> Value:
    few = net("pooled/prefix", Take(0, tuple(range(count))), x)
    return net("pooled/class", Reshape((count * x.shape[-1],)), few)


def _mean_of_patches(net: Builder, x: Value, prefix_tokens: int) -> Value:
    if prefix_tokens:
        x = net("pooled/patches", Take(0, tuple(range(prefix_tokens, x.shape[0]))), x)
    return net("pooled/mean", Mean(0), x)
