"""Drops k's bias, which the softmax does not see.

With query ``q`` and k's bias ``b``, every score of that query grows by the same amount::

    q · (k_j + b)  =  q · k_j  +  q · b

and softmax ignores what is common to a row. It does not hold where k is normalised.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.vit import Block, ViT


class DropKeyBias:
    """No bias on k."""

    name = "drop-key-bias"
    order = 40
    default = True

    def apply(self, vit: ViT) -> ViT:
        """See the module's docstring."""
        if not any(_has_key_bias(block) for block in vit.blocks):
            return vit
        return vit.map_blocks(_drop)


def _has_key_bias(block: Block) -> bool:
    return block.k_norm is None and bool(np.any(block.k.bias))


def _drop(block: Block) -> Block:
    if not _has_key_bias(block):
        return block
    return replace(block, k=replace(block.k, bias=np.zeros_like(block.k.bias)))


PLUGIN = DropKeyBias()
