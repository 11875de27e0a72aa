"""Centres the residual stream, so that LayerNorm becomes RMSNorm.

LayerNorm subtracts the mean over channels first. If every layer that writes the stream writes
vectors of mean zero, their sum has mean zero and there is nothing to subtract::

    LN(x) = RMSNorm(x)    where    mean(x) = 0

Subtracting from each row of a weight its mean over the outputs does that, and the logits do not
change, since LayerNorm ignores the mean (SliceGPT, arXiv:2401.15024, section 3.1).
It saves a reduction and a subtraction; whether that is faster depends on the runtime, so it is
applied only when asked for, or where a converter says so. No linear layer's input changes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.rewrite.rotate_residual import stream_norms_are_plain
from vitedge.spec import NormKind
from vitedge.vit import Array, Block, Linear, ViT


class CentreResidual:
    """RMSNorm in place of LayerNorm."""

    name = "centre-residual"
    order = 70
    default = False

    def apply(self, vit: ViT) -> ViT:
        """See the module's docstring; nothing is done where a norm keeps its gamma or beta."""
        if vit.config.norm_kind is NormKind.RMS or not stream_norms_are_plain(vit):
            return vit
        vit = vit.map_blocks(_centre_block)
        return replace(
            vit,
            config=replace(vit.config, norm_kind=NormKind.RMS),
            patch=_centred_layer(vit.patch),
            prefix=_centred(vit.prefix),
            positions=_centred(vit.positions),
        )


def _centred(array: Array) -> Array:
    wide = array.astype(np.float64)
    centred: Array = (wide - wide.mean(axis=-1, keepdims=True)).astype(np.float32)
    return centred


def _centred_layer(layer: Linear) -> Linear:
    return Linear(_centred(layer.weight), _centred(layer.bias))


def _centre_block(block: Block) -> Block:
    return replace(block, out=_centred_layer(block.out), fc2=_centred_layer(block.fc2))


PLUGIN = CentreResidual()
