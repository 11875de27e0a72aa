"""The tokens that a transformer of timm puts before its blocks, and the grid of its patches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vitedge.errors import ModelError
from vitedge.images.preprocess import Preprocessing
from vitedge.importers import ImportOptions
from vitedge.importers.layers import rows, size_advice, torch_patch_shape
from vitedge.importers.positions import interpolate_positions
from vitedge.importers.reading.tensors import Tensors
from vitedge.importers.timm.blocks import BIAS_TABLE
from vitedge.importers.timm.facts import Facts
from vitedge.importers.timm.published import arguments_of, image_size_of, model_size_of
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
    return _with_positions(tensors, prefix, patch_size, facts, options, published)


def _with_positions(
    tensors: Tensors,
    prefix: Array,
    patch_size: tuple[int, int],
    facts: Facts,
    options: ImportOptions,
    published: Mapping[str, Any],
) -> Tokens:
    positions = rows(tensors, "pos_embed")
    patches = _patches_of_positions(len(positions), len(prefix), published)
    said = model_size_of(published)
    sizes = (image_size_of(published), options.image_size, facts.image)
    grid = _grid_of_one((said,) if said else sizes, patches, patch_size)
    if grid is None:
        if said is not None:
            raise _other_size(tensors, len(positions), patch_size, said)
        grid = _square(tensors, len(positions), len(prefix), patches, patch_size, options)
    if grid[0] * grid[1] != len(positions):
        own, positions = np.split(positions, [len(prefix)])
        prefix = prefix + own
    return Tokens(prefix, np.ascontiguousarray(positions), grid, patch_size)


def _patches_of_positions(
    positions: int, prefix: int, published: Mapping[str, Any]
) -> tuple[int, ...]:
    """The numbers of patches there may be; with ``no_embed_class`` only patches have positions."""
    alone = arguments_of(published).get("no_embed_class")
    if isinstance(alone, bool):
        return (positions if alone else positions - prefix,)
    return (positions - prefix, positions)


def _grid_of_one(
    sizes: Iterable[tuple[int, int] | None], patches: tuple[int, ...], patch_size: tuple[int, int]
) -> tuple[int, int] | None:
    """The grid of the first size that has as many patches as there may be."""
    for size in sizes:
        if size is not None:
            high, wide = _patches_of(size, patch_size)
            if high * wide in patches and high:
                return _grid_of(size, patch_size)
    return None


def _other_size(
    tensors: Tensors, positions: int, patch_size: tuple[int, int], size: tuple[int, int]
) -> ModelError:
    high, wide = _patches_of(size, patch_size)
    return ModelError(
        f"the config.json beside '{tensors.source}' gives its model 'img_size' {list(size)}, "
        f"which has {high} x {wide} patches, but the weights have {positions} positions: "
        "give their own size there"
    )


def _square(
    tensors: Tensors,
    positions: int,
    prefix: int,
    patches: tuple[int, ...],
    patch_size: tuple[int, int],
    options: ImportOptions,
) -> tuple[int, int]:
    """The square of patches that there may be.

    Raises:
        ModelError: There are none, or two.
    """
    sides = sorted({math.isqrt(each) for each in patches if each > 0 and _is_square(each)})
    if len(sides) == 1:
        return sides[0], sides[0]
    if not sides:
        advice = size_advice(patches[0], patch_size, options)
        raise ModelError(
            f"'{tensors.source}' has {positions} positions, which are not a square of "
            f"patches with {prefix} tokens before it: {advice}"
        )
    such = " or ".join(f"{side * patch_size[0]}x{side * patch_size[1]}" for side in sides)
    raise ModelError(
        f"'{tensors.source}' has {positions} positions, which do not tell whether the {prefix} "
        f"tokens before the patches have some of them: give --image-size of its own images, {such}"
    )


def _is_square(number: int) -> bool:
    return math.isqrt(number) ** 2 == number


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
    return replace(tokens, grid=grid, positions=positions), preprocessing.at_size(size)


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
        size = _size_of_distances(tensors.shape(table)[0] - apart, size, patch_size)
    size = options.image_size or size
    if size is None:
        raise ModelError(
            f"'{tensors.source}' has no position embedding that tells its size: give --image-size"
        )
    return _grid_of(size, patch_size)


def _size_of_distances(
    distances: int, size: tuple[int, int] | None, patch_size: tuple[int, int]
) -> tuple[int, int]:
    """The size if it has so many distances between two patches, else that of a square."""
    if size is not None:
        high, wide = _patches_of(size, patch_size)
        if (2 * high - 1) * (2 * wide - 1) == distances:
            return size
    side = (math.isqrt(max(distances, 0)) + 1) // 2
    return side * patch_size[0], side * patch_size[1]


def _patches_of(size: tuple[int, int], patch_size: tuple[int, int]) -> tuple[int, int]:
    """The rows and columns of whole patches in an image."""
    return size[0] // patch_size[0], size[1] // patch_size[1]


def _grid_of(size: tuple[int, int], patch_size: tuple[int, int]) -> tuple[int, int]:
    if any(whole < patch or whole % patch for whole, patch in zip(size, patch_size, strict=True)):
        raise ValueError(f"image size {size} is not a multiple of patch size {patch_size}")
    return _patches_of(size, patch_size)
