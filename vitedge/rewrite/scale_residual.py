"""Scales the residual stream down, so that norms can square it in half precision.

A LayerNorm does not see the scale of its input, if its epsilon is scaled along::

    LN(x; e) = LN(s x; s² e)

Whatever writes the stream is therefore scaled by ``s``, a power of two, which loses nothing. In
deep ViTs some channels of the stream reach several hundreds; squared and summed over the
channels, that is beyond half precision's 65504, and GPUs and NPUs return infinity or zeros. With
``s = 1/16`` there is 256 times the room above, and a stream of 0.01 still squares to a normal
number.

Only devices that compute in half precision need it, so it is applied only when asked for.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.spec import NormPosition
from vitedge.vit import Block, Linear, Norm, ViT

_SCALE = np.float32(1 / 16)


class ScaleResidual:
    """A stream that half precision can square."""

    name = "scale-residual"
    order = 80
    default = False

    def apply(self, vit: ViT) -> ViT:
        """See the module's docstring; nothing is done where something else reads the stream."""
        if vit.config.norm_position is NormPosition.POST:
            return vit  # the stream is a norm's output
        if vit.norm is not None:
            vit = replace(vit, norm=_reads_scaled(vit.norm))
        elif vit.pooled_norm is not None:
            vit = replace(vit, pooled_norm=_reads_scaled(vit.pooled_norm))
        else:
            return vit
        vit = vit.map_blocks(_scaled_block)
        if vit.input_norm is not None:
            norm = vit.input_norm
            written = replace(norm, gamma=norm.gamma * _SCALE, beta=norm.beta * _SCALE)
            return replace(vit, input_norm=written)
        return replace(
            vit,
            patch=_scaled_layer(vit.patch),
            prefix=vit.prefix * _SCALE,
            positions=vit.positions * _SCALE,
        )


def _reads_scaled(norm: Norm) -> Norm:
    return replace(norm, eps=norm.eps * float(_SCALE) ** 2)


def _scaled_layer(layer: Linear) -> Linear:
    return Linear(layer.weight * _SCALE, layer.bias * _SCALE)


def _scaled_block(block: Block) -> Block:
    return replace(
        block,
        norm1=_reads_scaled(block.norm1),
        out=_scaled_layer(block.out),
        norm2=_reads_scaled(block.norm2),
        fc2=_scaled_layer(block.fc2),
    )


PLUGIN = ScaleResidual()
