"""Folds the factor on the attention scores into q.

``scale (q · k) = (scale q) · k``: the scale goes into q's weight and bias or, where q is
normalised, into gamma and beta of its norm.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.vit import Array, Block, Linear, ViT


class FoldAttentionScale:
    """No multiplication between the score product and the softmax."""

    name = "fold-attention-scale"
    order = 50
    default = True

    def apply(self, vit: ViT) -> ViT:
        """See the module's docstring."""
        return fold(vit, kept=1.0)


def fold(vit: ViT, *, kept: float) -> ViT:
    """The ViT whose factor on the scores is ``kept``; q takes the rest."""
    rest = vit.config.attention_scale / kept
    if rest == 1:
        return vit
    return replace(
        vit,
        config=replace(vit.config, attention_scale=kept),
        blocks=tuple(_scale_queries(block, rest) for block in vit.blocks),
    )


def _scale_queries(block: Block, scale: float) -> Block:
    def scaled(array: Array) -> Array:
        return (array * np.float64(scale)).astype(np.float32)

    if block.q_norm is None:
        return replace(block, q=Linear(scaled(block.q.weight), scaled(block.q.bias)))
    norm = block.q_norm
    return replace(block, q_norm=replace(norm, gamma=scaled(norm.gamma), beta=scaled(norm.beta)))


PLUGIN = FoldAttentionScale()
