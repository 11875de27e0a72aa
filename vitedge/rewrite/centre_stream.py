"""Centres the residual stream: every layer that writes it writes vectors of mean zero.

LayerNorm subtracts the mean over channels, so what the writers add to all channels alike reaches no
reader (SliceGPT, arXiv:2401.15024, section 3.1)::

    LN(x + c 1) = LN(x)

Subtracting from each row of a weight its mean over the outputs takes it out. It costs nothing, and
a stream that runs in bfloat16 or in integers holds the rest more finely: massive tokens, hundreds
in all channels, would leave a bfloat16 steps of one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.rewrite.rotate_residual import stream_norms_are_plain
from vitedge.spec import NormKind
from vitedge.vit import Array, Block, Linear, ViT

# What float32 leaves of the mean of numbers around one after another change of basis. Its effect on
# a norm is the square of it.
_ROUNDING = 1e-5


class CentreStream:
    """A residual stream of mean zero."""

    name = "centre-stream"
    order = 65
    default = False

    def apply(self, vit: ViT) -> ViT:
        """See the module's docstring; nothing is done where a norm keeps its gamma or beta."""
        if not reads_no_mean(vit) or all(map(_is_centred, _written(vit))):
            return vit
        return replace(
            vit.map_blocks(_centre_block),
            patch=_centred_layer(vit.patch),
            prefix=_centred(vit.prefix),
            positions=_centred(vit.positions),
        )


def reads_no_mean(vit: ViT) -> bool:
    """Whether every reader of the stream takes its mean out first, and nothing else beside."""
    return vit.config.norm_kind is not NormKind.RMS and stream_norms_are_plain(vit)


def _written(vit: ViT) -> list[Array]:
    layers = [vit.patch]
    for block in vit.blocks:
        layers += [block.out, block.fc2]
    arrays = [vit.prefix, vit.positions]
    for layer in layers:
        arrays += [layer.weight, layer.bias]
    return arrays


def _is_centred(array: Array) -> bool:
    largest = np.abs(array).max(initial=0.0)
    mean = array.mean(axis=-1, dtype=np.float64)
    return bool(np.abs(mean).max(initial=0.0) <= _ROUNDING * largest)


def _centred(array: Array) -> Array:
    wide = array.astype(np.float64)
    centred: Array = (wide - wide.mean(axis=-1, keepdims=True)).astype(np.float32)
    return centred


def _centred_layer(layer: Linear) -> Linear:
    return Linear(_centred(layer.weight), _centred(layer.bias))


def _centre_block(block: Block) -> Block:
    return replace(block, out=_centred_layer(block.out), fc2=_centred_layer(block.fc2))


PLUGIN = CentreStream()
