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
        distances: Which row is for a query and a key, ``(queries, keys)``.
    """
    return np.ascontiguousarray(table[distances].transpose(2, 0, 1))
