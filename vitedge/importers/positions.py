"""Position embeddings for another image size."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.files.limits import refuse_inflation
from vitedge.network.operators import Array


class Resampling(StrEnum):
    """The call of torch's ``interpolate``; the two bicubic ones differ in the kernel, too."""

    ANTIALIASED = "antialiased"
    """With antialiasing: timm's ``resample_abs_pos_embed``, and Pillow's images."""
    BICUBIC = "bicubic"
    """Without: DINOv2's first code, and transformers' models with few exceptions."""
    BILINEAR = "bilinear"
    """Bilinear with antialiasing: SigLIP 2."""


def interpolate_positions(
    positions: Array,
    grid: tuple[int, int],
    new_grid: tuple[int, int],
    resampling: Resampling = Resampling.ANTIALIASED,
) -> Array:
    """Resamples the positions of a grid of patches.

    Args:
        positions: Positions row by row, ``(rows * columns, dim)``.
        grid: Rows and columns they belong to.
        new_grid: Rows and columns wanted.
        resampling: The kind of filter.

    Returns:
        ``(new_rows * new_columns, dim)``.
    """
    if grid == new_grid:
        return positions
    dim = positions.shape[1]
    floats = (new_grid[0] + grid[0]) * new_grid[1] * dim
    floats += new_grid[0] * grid[0] + new_grid[1] * grid[1]
    refuse_inflation(f"positions of {new_grid[0]} x {new_grid[1]} patches", floats * 8)
    image = positions.reshape(*grid, -1)
    rows, columns = (
        _matrix(size, new, resampling).astype(np.float32)
        for size, new in zip(grid, new_grid, strict=True)
    )
    # Across first, then down, as torch does it.
    across = np.einsum("jw,hwd->hjd", columns, image)
    down = np.einsum("ih,hjd->ijd", rows, across)
    return np.ascontiguousarray(down.reshape(-1, positions.shape[1]), np.float32)


def _matrix(size: int, new: int, resampling: Resampling) -> npt.NDArray[np.float64]:
    """The matrix ``(new, size)`` that resamples one axis."""
    scale = size / new
    # When shrinking, the kernel widens with the step, which is the antialiasing.
    width = 1.0 if resampling is Resampling.BICUBIC else max(scale, 1.0)
    matrix = np.zeros((new, size))
    for index in range(new):
        centre = scale * (index + 0.5)
        if resampling is Resampling.BILINEAR:
            weights = np.maximum(1 - np.abs(np.arange(size) + 0.5 - centre) / width, 0)
            matrix[index] = weights / weights.sum()
        elif resampling is Resampling.ANTIALIASED:
            first = max(int(centre - 2 * width + 0.5), 0)
            last = min(int(centre + 2 * width + 0.5), size)
            spots = np.arange(first, last)
            weights = _cubic((spots + 0.5 - centre) / width, -0.5)
            matrix[index, spots] = weights / weights.sum()
        else:
            # The four neighbours, those beyond the edge being the edge.
            spots = int(np.floor(centre - 0.5)) + np.arange(-1, 3)
            weights = _cubic(spots + 0.5 - centre, -0.75)
            np.add.at(matrix[index], np.clip(spots, 0, size - 1), weights)
    return matrix


def _cubic(x: npt.NDArray[np.floating[Any]], a: float) -> npt.NDArray[np.float64]:
    """Keys's kernel, doi:10.1109/TASSP.1981.1163711."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
