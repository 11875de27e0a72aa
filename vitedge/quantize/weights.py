"""The scale of an integer weight, searched by squared error."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitedge.vit import Array

# Shares of the largest magnitude that the grid may end at. A grid that clips the largest weight
# is finer for all others; below a half it has never won.
_SHARES = np.linspace(0.5, 1.0, 26)


def searched_scale(
    weight: Array, limit: int, importance: npt.NDArray[np.floating] | None = None
) -> Array:
    """The scale of each column whose rounding has the least squared error.

    Args:
        weight: ``(inputs, outputs)``.
        limit: Largest integer of the grid.
        importance: What the squared error of each input's weight counts, ``(inputs,)``.

    Returns:
        float32 ``(outputs,)``, positive: 1 for a column of zeros.
    """
    largest = np.abs(weight).max(axis=0)
    largest = np.where(largest > 0, largest, np.float32(limit)).astype(np.float32)
    best_scale = (largest / np.float32(limit)).astype(np.float32)
    best_error = np.full(weight.shape[1], np.inf)
    for share in _SHARES[::-1]:
        scale = (largest * np.float32(share / limit)).astype(np.float32)
        rounded = np.clip(np.rint(weight / scale), -limit, limit) * scale
        squared = (rounded - weight) ** 2
        error = squared.sum(axis=0) if importance is None else importance @ squared
        better = error < best_error
        best_scale = np.where(better, scale, best_scale)
        best_error = np.where(better, error, best_error)
    return best_scale
