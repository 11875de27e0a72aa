"""Scale and zero point of an integer weight, searched by squared error."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from vitedge.network.operators import Array
from vitedge.rewrite.learnt_grid import LEAST_SCALE, Groups

# Shares of the largest magnitude that the grid may end at. A grid that clips the largest weight
# is finer for all others; below a half it has never won.
_SHARES = np.linspace(0.5, 1.0, 26)

# The same for the range of a group of few weights, which may be wider too: more or narrower ones
# gain 0.03 dB of a layer's error on DeiT-tiny, 1 alone loses 0.3.
_WIDTHS = np.linspace(0.9, 1.1, 5)

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
        importance: The weight of the squared error of each input's weight, ``(inputs,)``.
        lowest: Smallest integer of the grid; None is ``-limit``.

    Returns:
        float32 ``(outputs,)``, positive: 1 for a column of zeros.
    """
    limits = -limit if lowest is None else lowest, limit
    largest = np.abs(weight).max(axis=0)
    largest = np.where(largest > 0, largest, np.float32(limit)).astype(np.float32)
    parts = [
        _searched(weight[:, part], largest[part], limits, importance)
        for part in _cached_columns(*weight.shape)
    ]
    return np.concatenate(parts)


def searched_groups(
    weight: Array, limits: tuple[int, int], importance: npt.NDArray[np.floating], groups: Groups
) -> tuple[Array, npt.NDArray[np.int8] | None]:
    """Scales, and zero points if there are such, of each column's groups of neighbours.

    Args:
        weight: ``(inputs, outputs)``.
        limits: Smallest and largest integer of the grid.
        importance: The weight of the squared error of each input's weight, ``(inputs,)``.
        groups: The groups that share scales.

    Returns:
        float32 ``(groups, outputs)``, numbers of half precision, for files hold them so; and
        int8 ``(groups, outputs)`` within the limits, or None.
    """
    inputs, outputs = weight.shape
    size = groups.size_of(inputs)
    scale = np.empty((inputs // size, outputs), np.float32)
    zero = np.zeros(scale.shape, np.int8)
    for group, start in enumerate(range(0, inputs, size)):
        rows = slice(start, start + size)
        if not groups.zero_points:
            scale[group] = half_precision(
                searched_scale(weight[rows], limits[1], importance[rows], lowest=limits[0])
            )
            continue
        for part in _cached_columns(size, outputs):
            scale[group, part], zero[group, part] = _searched_range(
                weight[rows, part], limits, importance[rows]
            )
    return scale, zero if groups.zero_points else None


def _cached_columns(rows: int, columns: int) -> Iterator[slice]:
    """Gives as many columns at once as fit into a cache."""
    width = max(1, _CACHED // rows)
    return (slice(start, start + width) for start in range(0, columns, width))


def half_precision(scale: Array) -> Array:
    """The nearest float32 numbers that half precision holds and that are positive, not infinite."""
    most = np.finfo(np.float16).max
    half: Array = np.clip(scale, LEAST_SCALE, most).astype(np.float16).astype(np.float32)
    return half


def _searched_range(
    weight: Array, limits: tuple[int, int], importance: npt.NDArray[np.floating]
) -> tuple[Array, Array]:
    """Scale and zero point of a few columns, both ``(outputs,)``."""
    low, high = limits
    rows = np.ascontiguousarray(weight.T)
    bottom, top = np.minimum(rows.min(axis=1), 0), np.maximum(rows.max(axis=1), 0)
    width, middle = top - bottom, (top + bottom) / 2
    # As above: a column of zeros has the scale 1.
    width = np.where(width > 0, width, np.float32(high - low))
    best_scale, best_zero = np.empty_like(width), np.empty_like(width)
    best_error = np.full(len(rows), np.inf)
    rounded = np.empty_like(rows)
    for share in _WIDTHS[::-1]:
        scale = half_precision(width * np.float32(share / (high - low)))
        steps = rows / scale[:, None]
        exact = np.float32((low + high) / 2) - middle / scale
        for zero in (np.floor(exact), np.ceil(exact)):
            np.clip(zero, low, high, out=zero)
            np.rint(steps, out=rounded)
            np.clip(rounded, (low - zero)[:, None], (high - zero)[:, None], out=rounded)
            rounded -= steps
            error = np.square(rounded, out=rounded) @ importance * np.square(scale)
            better = error < best_error
            best_scale = np.where(better, scale, best_scale)
            best_zero = np.where(better, zero, best_zero)
            best_error = np.where(better, error, best_error)
    return best_scale, best_zero


def _searched(
    weight: Array,
    largest: Array,
    limits: tuple[int, int],
    importance: npt.NDArray[np.floating] | None,
) -> Array:
    """The best scales of a few columns, whose largest magnitudes are given."""
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
