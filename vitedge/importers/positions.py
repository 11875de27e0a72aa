"""Position embeddings for another image size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitedge.vit import Array


def interpolate_positions(
    positions: Array, grid: tuple[int, int], new_grid: tuple[int, int]
) -> Array:
    """Resamples the positions of a grid of patches.

    Bicubic with antialiasing, as timm's ``resample_abs_pos_embed`` does it through torch's
    ``interpolate(mode="bicubic", antialias=True)``.

    Args:
        positions: Positions row by row, ``(rows * columns, dim)``.
        grid: Rows and columns they belong to.
        new_grid: Rows and columns wanted.

    Returns:
        ``(new_rows * new_columns, dim)``.
    """
    if grid == new_grid:
        return positions
    image = positions.reshape(*grid, -1)
    rows, columns = (
        _resampling(size, new).astype(np.float32) for size, new in zip(grid, new_grid, strict=True)
    )
    # Across first, then down, as torch does it.
    across = np.einsum("jw,hwd->hjd", columns, image)
    down = np.einsum("ih,hjd->ijd", rows, across)
    return np.ascontiguousarray(down.reshape(-1, positions.shape[1]), np.float32)


def _resampling(size: int, new: int) -> npt.NDArray[np.float64]:
    """The matrix ``(new, size)`` that resamples one axis."""
    scale = size / new
    # When shrinking, the kernel widens with the step, which is the antialiasing.
    width = max(scale, 1.0)
    matrix = np.zeros((new, size))
    for index in range(new):
        centre = scale * (index + 0.5)
        first = max(int(centre - 2 * width + 0.5), 0)
        last = min(int(centre + 2 * width + 0.5), size)
        weights = _cubic((np.arange(first, last, dtype=np.float64) + 0.5 - centre) / width)
        matrix[index, first:last] = weights / weights.sum()
    return matrix


def _cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys's kernel with a = -0.5, as Pillow and torch's antialiased bicubic have it."""
    a, x = -0.5, np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
