"""Balances q and k of each head (see ``balanced_pairs``).

A score is ``(x W_q)(y W_k)ᵀ``, so ``W_q A`` and ``W_k A⁻ᵀ`` give the same one. It serves targets
that round queries and keys; where they stay float nothing is gained, so it is applied only when
asked for. It does not hold where queries or keys are normalised.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.rewrite.balanced_pairs import balancing, gram
from vitedge.vit import Block, Linear, ViT


class BalanceQueries:
    """Queries and keys that are easy to round."""

    name = "balance-queries"
    order = 81
    default = False

    def apply(self, vit: ViT) -> ViT:
        """See the module's docstring."""
        if any(block.q_norm or block.k_norm for block in vit.blocks):
            return vit
        return vit.map_blocks(lambda block: _balanced(block, vit.config.heads))


def _balanced(block: Block, heads: int) -> Block:
    query, query_bias = block.q.weight.copy(), block.q.bias.copy()
    key, key_bias = block.k.weight.copy(), block.k.bias.copy()
    width = query.shape[1] // heads
    for head in range(heads):
        channels = slice(head * width, (head + 1) * width)
        change, inverse = balancing(gram(query[:, channels]), gram(key[:, channels]), head)
        query[:, channels] = (query[:, channels] @ change).astype(np.float32)
        query_bias[channels] = (query_bias[channels] @ change).astype(np.float32)
        key[:, channels] = (key[:, channels] @ inverse.T).astype(np.float32)
        key_bias[channels] = (key_bias[channels] @ inverse.T).astype(np.float32)
    return replace(block, q=Linear(query, query_bias), k=Linear(key, key_bias))


PLUGIN = BalanceQueries()
