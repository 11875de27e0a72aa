"""Scores as SwinV2 has them: a factor for each head, and a bias out of an MLP (arXiv:2111.09883).

Queries and keys of length one make cosines of the scores.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from vitedge.elements.attention import Pass
from vitedge.network.network import Builder, Value
from vitedge.network.operators import Array, Constant, Linear, Multiply

_LARGEST_FACTOR = 100.0
_STEEPNESS = 16.0


def factors_by_head(logit_scale: Array, then: Pass | None = None) -> Pass:
    """Multiplies scores ``(..., heads, queries, keys)``; ``then`` is what they pass next.

    Args:
        logit_scale: The logarithm of the factor of each head, ``(heads, 1, 1)``.
        then: Such as a position bias.
    """
    factors = np.exp(np.minimum(logit_scale, math.log(_LARGEST_FACTOR))).astype(np.float32)

    def scale(net: Builder, scores: Value, name: str) -> Value:
        by = net(f"{name}.factors", Constant(factors))
        scores = net(f"{name}/by_factors", Multiply(), scores, by)
        return scores if then is None else then(net, scores, name)

    return scale


def table_of_mlp(
    window: tuple[int, int], hidden: Linear, last: Linear, pretrained: int = 0
) -> Array:
    """The table of a relative bias, ``(rows, heads)``, out of an MLP over log-spaced distances.

    Args:
        window: Rows and columns of a window.
        hidden: The first layer of the MLP, which a ReLU follows.
        last: The second layer.
        pretrained: Rows of the window that the MLP was trained with; 0 is this window.
    """
    spaced = spaced_distances(window, pretrained)
    between = np.maximum(spaced @ hidden.weight.astype(np.float64) + hidden.bias, 0)
    made = between @ last.weight.astype(np.float64) + last.bias
    table: Array = (_STEEPNESS / (1 + np.exp(-made))).astype(np.float32)
    return table


def spaced_distances(window: tuple[int, int], pretrained: int = 0) -> npt.NDArray[np.float64]:
    """The log-spaced distances down and across that the MLP reads, ``(rows, 2)``.

    Args:
        window: Rows and columns of a window.
        pretrained: The rows of the window that the MLP was trained with; 0 is this window.
    """
    axes = [np.arange(1 - size, size) / max((pretrained or size) - 1, 1) for size in window]
    distances = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2) * 8
    spaced: npt.NDArray[np.float64] = np.log2(np.abs(distances) + 1) / math.log2(8)
    return np.copysign(spaced, distances)
