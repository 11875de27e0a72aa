"""A learned term for each head and distance, added to the scores (arXiv:2103.14030, BEiT, Swin)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.elements.attention import Pass
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Add, Array, Constant


def relative_bias(bias: Array) -> Pass:
    """Adds to scores ``(..., heads, queries, keys)``, the ``add_to_scores`` of ``attention``.

    Args:
        bias: ``(heads, queries, keys)``, or with the axes that stand apart before them, such as a
            mask for each window.
    """

    def add(net: Builder, scores: Value, name: str) -> Value:
        return net(f"{name}/biased", Add(), scores, net(f"{name}.bias", Constant(bias)))

    return add


def bias_of_table(table: Array, distances: npt.NDArray[np.integer[Any]]) -> Array:
    """``(heads, queries, keys)`` out of a table with one row for each distance.

    Args:
        table: ``(rows, heads)``.
        distances: The row for each query and key, ``(queries, keys)``.
    """
    return np.ascontiguousarray(table[distances].transpose(2, 0, 1))


def distances(grid: tuple[int, int], *, class_token: bool) -> npt.NDArray[np.int64]:
    """The row of the table for each query and key, ``(tokens, tokens)``: BEiT's numbering.

    The last three rows are for the class token: to a patch, from a patch, and to itself.

    Args:
        grid: Rows and columns of patches.
        class_token: Whether one stands before the patches.
    """
    rows, columns = np.indices(grid).reshape(2, -1)
    down = rows[:, None] - rows[None, :] + grid[0] - 1
    across = columns[:, None] - columns[None, :] + grid[1] - 1
    between = down * (2 * grid[1] - 1) + across
    if not class_token:
        return between
    last = table_rows(grid, class_token=True) - 1
    all_tokens = np.full([each + 1 for each in between.shape], last - 1, np.int64)
    all_tokens[0, :], all_tokens[0, 0], all_tokens[1:, 1:] = last - 2, last, between
    return all_tokens


def table_rows(grid: tuple[int, int], *, class_token: bool) -> int:
    """The number of rows in the table of such a grid."""
    return (2 * grid[0] - 1) * (2 * grid[1] - 1) + (3 if class_token else 0)
