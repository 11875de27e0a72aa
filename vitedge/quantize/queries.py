"""Queries and keys in a basis that is easier to round, where both are rounded.

A score is ``q · k``. Rounding ``q`` in steps of ``s`` adds ``s² |k|² / 12`` to its variance, and
rounding ``k`` likewise, so a few large channels of either make all scores coarse. The basis of
``rewrite.balance_queries`` is best by what the weights suggest; it is taken where the measured
numbers say so too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.quantize.input_statistics import Statistics
from vitedge.rewrite.balance_queries import BalanceQueries
from vitedge.vit import Array, Block, Linear, ViT

# Another basis must halve the noise of the scores, as a smoothing exponent must.
_WORTHWHILE = 0.5


def balance_queries(vit: ViT, statistics: Statistics) -> ViT:
    """The ViT with queries and keys in another basis wherever that is worthwhile."""
    blocks = []
    for index, (plain, balanced) in enumerate(
        zip(vit.blocks, BalanceQueries().apply(vit).blocks, strict=True)
    ):
        name = f"blocks.{index}"
        rows = statistics.inputs[f"{name}.q"].rows, statistics.inputs[f"{name}.k"].rows
        better = _noise(balanced, *rows) < _WORTHWHILE * _noise(plain, *rows)
        blocks.append(balanced if better else plain)
    return replace(vit, blocks=tuple(blocks))


def _noise(block: Block, queries_from: Array, keys_from: Array) -> float:
    """What rounding queries and keys adds to the scores, in some unit."""
    queries, keys = _made(block.q, queries_from), _made(block.k, keys_from)
    return _step(queries) ** 2 * _energy(keys) + _step(keys) ** 2 * _energy(queries)


def _made(layer: Linear, x: Array) -> Array:
    made: Array = x @ layer.weight + layer.bias
    return made


def _step(x: Array) -> float:
    return float(x.max(initial=0.0) - x.min(initial=0.0))


def _energy(x: Array) -> float:
    return float(np.square(x).sum() / max(len(x), 1))
