"""Bipartite soft matching of tokens in NumPy; see ``operators.Match``."""

from __future__ import annotations

import numpy as np

from vitedge.network.operators import Array, Match


def matched(x: Array, match: Match) -> Array:
    """The tokens in each new one, ``(N, tokens - merged, tokens)``, of unit vectors.

    Args:
        x: ``(N, tokens, width)``.
        match: The operator, which says how many are merged.
    """
    tokens = x.shape[1]
    finders, found = np.asarray(match.finders(tokens)), np.asarray(match.found(tokens))
    similar: Array = x[:, finders] @ x[:, found].swapaxes(1, 2)
    partners = found[similar.argmax(axis=2)]
    order = finders[np.argsort(-similar.max(axis=2), axis=1, kind="stable")]
    matrix = np.zeros((len(x), tokens - match.merged, tokens), np.float32)
    for one, ordered, partner in zip(matrix, order, partners, strict=True):
        kept = np.concatenate([np.arange(match.fixed), ordered[match.merged :], found])
        one[np.arange(len(kept)), kept] = 1
        place = np.full(tokens, -1)
        place[kept] = np.arange(len(kept))
        gone = ordered[: match.merged]
        one[place[partner[(gone - match.fixed) // 2]], gone] = 1
    return matrix


def shares_of(matrix: Array, counts: Array) -> Array:
    """The share that each token has of the new ones, ``(N, new, old)``; rows sum to one."""
    weighted = matrix * counts.swapaxes(1, 2)
    total: Array = weighted.sum(axis=2, keepdims=True)
    return weighted / total


def counted(matrix: Array, counts: Array) -> Array:
    """The number of tokens in each new one, ``(N, new, 1)``; see ``operators.Count``."""
    found: Array = matrix @ counts
    return found


def merged(matrix: Array, x: Array, counts: Array) -> Array:
    """The means of what is merged; see ``operators.Merge``.

    Args:
        matrix: ``(N, new, old)``.
        x: ``(N, old, channels)``.
        counts: ``(N, old, 1)``.
    """
    found: Array = shares_of(matrix, counts) @ x
    return found
