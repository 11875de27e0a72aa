"""A transformer over patches, from pixels to tokens: what importers by name fill in.

Its blocks are elements with their weights in them, so that another attention or MLP needs nothing
here.
"""

from __future__ import annotations

from dataclasses import dataclass

from vitedge.elements.block import BlockParts, block
from vitedge.elements.patches import patches
from vitedge.images.preprocess import Preprocessing
from vitedge.network.network import Builder, Value
from vitedge.network.operators import (
    Add,
    Array,
    Concatenate,
    Constant,
    Linear,
    Norm,
    Pixels,
    Standardize,
)


@dataclass(frozen=True, eq=False)
class Trunk:
    """The parts of a transformer over patches.

    Attributes:
        patch: Projection of a flattened patch (row, column, channel order):
            weight ``(patch_height * patch_width * channels, dim)``.
        patch_size: Height and width of a patch in pixels.
        prefix: The tokens before the patches with their positions added, ``(tokens, dim)``.
        positions: Added to the projected patches, ``(patches, dim)``, or None.
        blocks: The blocks in order.
        norm: The norm of the tokens after the last block, or None.
        input_norm: The norm of all tokens before the first block (CLIP), or None.
        patch_norm: The norm of the projected patches alone (AIM), or None.
        between: The positions that all tokens get behind each block but the last (YOLOS),
            ``(tokens, dim)``.
    """

    patch: Linear
    patch_size: tuple[int, int]
    prefix: Array
    positions: Array | None
    blocks: tuple[BlockParts, ...]
    norm: Norm | None
    input_norm: Norm | None = None
    patch_norm: Norm | None = None
    between: tuple[Array, ...] = ()


def tokens_of(
    net: Builder, trunk: Trunk, preprocessing: Preprocessing, *, raw_pixels: bool = False
) -> Value:
    """All tokens ``(prefix + patches, dim)`` of an image; see ``states_of``."""
    x = states_of(net, trunk, preprocessing, raw_pixels=raw_pixels)[-1]
    return x if trunk.norm is None else net("norm", trunk.norm, x)


def states_of(
    net: Builder, trunk: Trunk, preprocessing: Preprocessing, *, raw_pixels: bool = False
) -> list[Value]:
    """All tokens before the first block and behind each, without the last norm.

    Args:
        net: The builder that makes the values.
        trunk: The parts.
        preprocessing: Says the size of an image, and how its pixels are normalised.
        raw_pixels: The normalisation is folded into ``patch`` already.
    """
    x = net("pixels", Pixels(*preprocessing.size, preprocessing.channels))
    if not raw_pixels:
        mean, std = tuple(preprocessing.mean), tuple(preprocessing.std)
        x = net("pixels/shifted", Standardize(mean, std), x)
    x = net("patch", trunk.patch, patches(net, x, trunk.patch_size, "patches"))
    if trunk.patch_norm is not None:
        x = net("patch_norm", trunk.patch_norm, x)
    if trunk.positions is not None:
        x = net("embedded", Add(), x, net("positions", Constant(trunk.positions)))
    if len(trunk.prefix):
        x = net("tokens", Concatenate(0), net("prefix", Constant(trunk.prefix)), x)
    if trunk.input_norm is not None:
        x = net("input_norm", trunk.input_norm, x)
    states = [x]
    for index, parts in enumerate(trunk.blocks):
        x = block(net, states[-1], parts, f"blocks.{index}")
        if index < len(trunk.between):
            places = net(f"positions.{index}", Constant(trunk.between[index]))
            x = net(f"embedded.{index}", Add(), x, places)
        states.append(x)
    return states
