"""Balances v and the output projection of each head (see ``balanced_pairs``).

The softmax mixes tokens and leaves channels alone, so a basis change between v and the output
projection passes through it: ``P (x W_v A) (A⁻¹ W_o) = P (x W_v) W_o``. The
quantizer does it again with what it has measured.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.rewrite.balanced_pairs import balancing, gram
from vitedge.vit import Block, Linear, ViT


class BalanceValues:
    """Values that are easy to round."""

    name = "balance-values"
    order = 80
    default = True

    def apply(self, vit: ViT) -> ViT:
        """See the module's docstring."""
        return vit.map_blocks(lambda block: _balanced(block, vit.config.heads))


def _balanced(block: Block, heads: int) -> Block:
    value, bias = block.v.weight.copy(), block.v.bias.copy()
    out = block.out.weight.copy()
    width = value.shape[1] // heads
    for head in range(heads):
        channels = slice(head * width, (head + 1) * width)
        change, inverse = balancing(gram(value[:, channels]), gram(out[channels].T), head)
        value[:, channels] = (value[:, channels] @ change).astype(np.float32)
        bias[channels] = (bias[channels] @ change).astype(np.float32)
        out[channels] = (inverse @ out[channels]).astype(np.float32)
    return replace(block, v=Linear(value, bias), out=Linear(out, block.out.bias))


PLUGIN = BalanceValues()
