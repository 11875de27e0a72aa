"""Folds gamma and beta of a norm into the linear layers that read it.

With the normalised ``n`` (before gamma and beta)::

    (n gamma + beta) W + b  =  n (diag(gamma) W)  +  (beta W + b)

It holds where linear layers are the only readers. In a pre-norm block that is norm1 (q, k, v) and
norm2 (fc1). In a post-norm block a norm's output is also a term of the next sum, so only
the very last norm2 can be folded, and that only where no final norm follows. The final norm, or
the norm after pooling, is read by the head; pooling is linear and keeps channels apart, so gamma
and beta repeat once per pooled token.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.spec import NormPosition
from vitedge.vit import Array, Block, Linear, Norm, ViT


class FoldNormAffine:
    """Norms without gamma and beta."""

    name = "fold-norm-affine"
    order = 20
    default = True

    def apply(self, vit: ViT) -> ViT:
        """See the module's docstring."""
        rewritten = _fold_into_head(vit)
        if vit.config.norm_position is NormPosition.PRE:
            if all(_is_plain(norm) for block in vit.blocks for norm in (block.norm1, block.norm2)):
                return rewritten
            return rewritten.map_blocks(_fold_block)
        return rewritten


def fold(norm: Norm, layer: Linear) -> Linear:
    """The layer that reads the plain norm in place of ``norm``.

    Args:
        norm: Its width divides the layer's inputs; gamma and beta repeat.
        layer: Weight ``(inputs, outputs)``.
    """
    repeats = layer.weight.shape[0] // norm.gamma.shape[0]
    weight = layer.weight.astype(np.float64)
    return Linear(
        (np.tile(norm.gamma, repeats)[:, None] * weight).astype(np.float32),
        (layer.bias + np.tile(norm.beta, repeats) @ weight).astype(np.float32),
    )


def plain(norm: Norm) -> Norm:
    """The norm with gamma 1 and beta 0."""
    ones: Array = np.ones_like(norm.gamma)
    return replace(norm, gamma=ones, beta=np.zeros_like(norm.beta))


def _is_plain(norm: Norm) -> bool:
    return bool(np.all(norm.gamma == 1) and np.all(norm.beta == 0))


def _fold_block(block: Block) -> Block:
    return replace(
        block,
        norm1=plain(block.norm1),
        q=fold(block.norm1, block.q),
        k=fold(block.norm1, block.k),
        v=fold(block.norm1, block.v),
        norm2=plain(block.norm2),
        fc1=fold(block.norm2, block.fc1),
    )


def _fold_into_head(vit: ViT) -> ViT:
    """Folds whichever norm is read by the head, or by its first hidden layer."""
    last = vit.blocks[-1]
    post = vit.config.norm_position is NormPosition.POST
    norm = vit.pooled_norm or vit.norm or (last.norm2 if post else None)
    if norm is None or _is_plain(norm):
        return vit
    if vit.pooled_norm is not None:
        vit = replace(vit, pooled_norm=plain(norm))
    elif vit.norm is not None:
        vit = replace(vit, norm=plain(norm))
    else:
        vit = replace(vit, blocks=(*vit.blocks[:-1], replace(last, norm2=plain(norm))))
    if vit.head_hidden:
        first, *others = vit.head_hidden
        return replace(vit, head_hidden=(fold(norm, first), *others))
    return replace(vit, head=fold(norm, vit.head))


PLUGIN = FoldNormAffine()
