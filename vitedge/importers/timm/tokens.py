"""The tokens that a transformer of timm puts before its blocks, and the grid of its patches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vitedge.errors import ModelError
from vitedge.images.preprocess import Preprocessing
from vitedge.importers import ImportOptions
from vitedge.importers.layers import rows, size_advice, square_grid, torch_patch_shape
from vitedge.importers.positions import interpolate_positions
from vitedge.importers.reading.tensors import Tensors
from vitedge.importers.timm.architectures import Facts
from vitedge.importers.timm.blocks import BIAS_TABLE
from vitedge.importers.timm.published import image_size_of
from vitedge.network.operators import Array

PATCH = "patch_embed.proj"
_PREFIX = ("cls_token", "dist_token", "reg_token")


@dataclass(frozen=True)
class Tokens:
    """The known facts about tokens besides the patch projection.

    Attributes:
        prefix: The tokens before the patches, with their positions added, ``(tokens, dim)``.
        positions: The positions of the patches, or None.
        grid: Rows and columns of patches.
        patch_size: Height and width in pixels.
    """

    prefix: Array
    positions: Array | None
    grid: tuple[int, int]
    patch_size: tuple[int, int]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.grid[0] * self.patch_size[0], self.grid[1] * self.patch_size[1]


def read_tokens(
    tensors: Tensors, facts: Facts, options: ImportOptions, published: Mapping[str, Any]
) -> Tokens:
    """The learned tokens, with their positions added as timm adds them.

    Raises:
        ModelError: Nobody says how many patches there are.
    """
    _, patch_size = torch_patch_shape(tensors, PATCH)
    names = [name for name in _PREFIX if name in tensors]
    dim = tensors.shape(f"{PATCH}.weight")[0]
    learned = [rows(tensors, name) for name in names]
    prefix = np.concatenate(learned or [np.zeros((0, dim), np.float32)])
    if "pos_embed" not in tensors:
        grid = _grid_without_positions(tensors, patch_size, facts, options, published)
        return Tokens(prefix, None, grid, patch_size)
    return _with_positions(tensors, prefix, patch_size, options, registers="reg_token" in names)


def _with_positions(
    tensors: Tensors,
    prefix: Array,
    patch_size: tuple[int, int],
    options: ImportOptions,
    *,
    registers: bool,
) -> Tokens:
    positions = rows(tensors, "pos_embed")
    # Some models (`no_embed_class`) give positions to the patches alone. Registers came with them.
    bare = square_grid(len(positions), patch_size, options)
    whole = square_grid(len(positions) - len(prefix), patch_size, options)
    grid = (bare or whole) if registers else (whole or bare)
    if grid is None:
        advice = size_advice(len(positions) - len(prefix), patch_size, options)
        raise ModelError(
            f"'{tensors.source}' has {len(positions)} positions, which are not a square of "
            f"patches with {len(prefix)} tokens before it: {advice}"
        )
    if grid != bare or grid == whole:
        own, positions = np.split(positions, [len(prefix)])
        prefix = prefix + own
    return Tokens(prefix, np.ascontiguousarray(positions), grid, patch_size)


def at_wanted_size(
    tokens: Tokens, facts: Facts, preprocessing: Preprocessing, options: ImportOptions
) -> tuple[Tokens, Preprocessing]:
    """Rotary positions of the image size that the user wants; others are interpolated later.

    Raises:
        ValueError: The patches do not fit.
    """
    size = options.image_size
    if facts.rope is None or size is None or size == tokens.image_size:
        return tokens, preprocessing
    grid = _grid_of(size, tokens.patch_size)
    positions = tokens.positions
    if positions is not None:
        positions = interpolate_positions(positions, tokens.grid, grid)
    resize = preprocessing.resize
    if resize is not None:
        resize = round(resize * max(size) / max(preprocessing.size))
    return (
        replace(tokens, grid=grid, positions=positions),
        replace(preprocessing, size=size, resize=resize),
    )


def _grid_without_positions(
    tensors: Tensors,
    patch_size: tuple[int, int],
    facts: Facts,
    options: ImportOptions,
    published: Mapping[str, Any],
) -> tuple[int, int]:
    size = image_size_of(published) or facts.image
    table = f"blocks.0.{BIAS_TABLE}"
    if table in tensors:
        # (2 rows - 1)(2 columns - 1) distances, and three for a class token
        apart = 3 if "cls_token" in tensors else 0
        side = (math.isqrt(max(tensors.shape(table)[0] - apart, 0)) + 1) // 2
        size = side * patch_size[0], side * patch_size[1]
    size = options.image_size or size
    if size is None:
        raise ModelError(
            f"'{tensors.source}' has no position embedding that tells its size: give --image-size"
        )
    return _grid_of(size, patch_size)


def _grid_of(size: tuple[int, int], patch_size: tuple[int, int]) -> tuple[int, int]:
    if any(whole < patch or whole % patch for whole, patch in zip(size, patch_size, strict=True)):
        raise ValueError(f"image size {size} is not a multiple of patch size {patch_size}")
    return size[0] // patch_size[0], size[1] // patch_size[1]
