"""Moves v's bias through the attention into the bias of the output projection.

Each row of the softmax's result ``P`` sums to one, so with v's bias ``b``::

    P (x W_v + 1 b) W_o + b_o  =  P (x W_v) W_o  +  (b W_o + b_o)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.vit import Block, Linear, ViT


class FoldValueBias:
    """No bias on v."""

    name = "fold-value-bias"
    order = 30
    default = True

    def apply(self, vit: ViT) -> ViT:
        """See the module's docstring."""
        if not any(np.any(block.v.bias) for block in vit.blocks):
            return vit
        return vit.map_blocks(_fold_block)


def _fold_block(block: Block) -> Block:
    moved = block.v.bias.astype(np.float64) @ block.out.weight.astype(np.float64)
    return replace(
        block,
        v=replace(block.v, bias=np.zeros_like(block.v.bias)),
        out=Linear(block.out.weight, (block.out.bias + moved).astype(np.float32)),
    )


PLUGIN = FoldValueBias()
