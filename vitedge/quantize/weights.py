"""The scale of an integer weight, searched by squared error."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitedge.vit import Array

# Shares of the largest magnitude that the grid may end at. A grid that clips the largest weight
# is finer for all others; below a half it has never won.
_SHARES = np.linspace(0.5, 1.0, 26)

# Numbers that are searched at once: they and what is computed of them stay in a core's cache.
_CACHED = 1 << 15


def searched_scale(
    weight: Array,
    limit: int,
    importance: npt.NDArray[np.floating] | None = None,
    *,
    lowest: int | None = None,
) -> Array:
    """The scale of each column whose rounding has the least squared error.

    Args:
        weight: ``(inputs, outputs)``.
        limit: Largest integer of the grid.
        importance: What the squared error of each input's weight counts, ``(inputs,)``.
        lowest: Smallest integer of the grid; None is ``-limit``.

    Returns:
        float32 ``(outputs,)``, positive: 1 for a column of zeros.
    """
    limits = -limit if lowest is None else lowest, limit
    largest = np.abs(weight).max(axis=0)
    largest = np.where(largest > 0, largest, np.float32(limit)).astype(np.float32)
    columns = max(1, _CACHED // len(weight))
    parts = [
        _searched(weight[:, part], largest[part], limits, importance)
        for part in (slice(start, start + columns) for start in range(0, weight.shape[1], columns))
    ]
    return np.concatenate(parts)


def _searched(
    weight: Array,
    largest: Array,
    limits: tuple[int, int],
    importance: npt.NDArray[np.floating] | None,
) -> Array:
    """Of a few columns, whose largest magnitudes are given."""
    low, high = limits
    # Outputs first, so that a column is contiguous.
    rows = np.ascontiguousarray(weight.T)
    best_scale = np.empty_like(largest)
    best_error = np.full(len(rows), np.inf)
    steps, rounded = np.empty_like(rows), np.empty_like(rows)
    for share in _SHARES[::-1]:
        scale = (largest * np.float32(share / high)).astype(np.float32)
        np.multiply(rows, 1 / scale[:, None], out=steps)
        np.rint(steps, out=rounded)
        np.minimum(rounded, high, out=rounded)
        np.maximum(rounded, low, out=rounded)
        rounded -= steps
        if importance is None:
            error = np.einsum("oi,oi->o", rounded, rounded)
        else:
            error = np.square(rounded, out=rounded) @ importance
        error = error * np.square(scale)
        better = error < best_error
        best_scale = np.where(better, scale, best_scale)
        best_error = np.where(better, error, best_error)
    return best_scale
