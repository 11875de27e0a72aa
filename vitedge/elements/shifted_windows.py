"""Attention within windows of the grid, which every second block shifts (arXiv:2103.14030)."""

from __future__ import annotations

import numpy as np

from vitedge.elements.attention import Pass
from vitedge.elements.windows import windows
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Array

_APART = -100.0
"""What Swin adds to the scores of tokens that the shift brought together."""


def in_windows(
    inner: Pass, *, grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]
) -> Pass:
    """An attention over windows ``(windows, tokens, dim)`` as one over tokens ``(tokens, dim)``."""

    def attend(net: Builder, x: Value, name: str) -> Value:
        def within(net: Builder, x: Value) -> Value:
            return inner(net, x, name)

        return windows(net, x, within, name, grid=grid, window=window, shift=shift)

    return attend


def shift_mask(grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]) -> Array:
    """The mask between tokens that are not neighbours, ``(windows, 1, queries, keys)``.

    Args:
        grid: Rows and columns of tokens.
        window: Rows and columns of a window.
        shift: The number of rows and columns by which the grid was rolled.
    """
    (rows, columns), (height, width) = grid, window
    down, across = (
        (np.arange(size) >= size - part).astype(int) + (np.arange(size) >= size - moved)
        for size, part, moved in zip(grid, window, shift, strict=True)
    )
    regions = 3 * down[:, None] + across[None, :]
    cut = regions.reshape(rows // height, height, columns // width, width)
    sorted_regions = cut.transpose(0, 2, 1, 3).reshape(-1, 1, height * width)
    alike = sorted_regions[:, :, :, None] == sorted_regions[:, :, None, :]
    return np.where(alike, 0.0, _APART).astype(np.float32)
