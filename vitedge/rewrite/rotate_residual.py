"""Rotates the residual stream by an orthogonal matrix, so that outlier channels spread out.

Let ``R`` be orthogonal with ``R 1 = 1``: it keeps the mean and the length of a vector, and so a
LayerNorm without gamma and beta commutes with it::

    LN(x R) = LN(x) R

Every layer that writes the stream gets ``R`` behind it, every layer that reads it, through a norm
or not, gets ``Rᵀ`` before it. A stream with any other reader or writer stays as it is, so gamma and
beta must have been folded away. An RMSNorm would commute with any rotation; the same one is used.
The idea is QuaRot's (arXiv:2404.00456); keeping the ones vector is what lets the stock LayerNorm
stay.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vitedge.network.network import Network, Value, with_operators
from vitedge.network.operators import Array, Constant, Convolution, Linear, Operator
from vitedge.network.streams import Stream, streams

# Any rotation serves: one random rotation of DeiT-tiny is as good as another within 0.3 dB.
_SEED = 0

_Matrix = npt.NDArray[np.float64]


class RotateResidual:
    """A residual stream without outlier channels."""

    name = "rotate-residual"
    order = 60
    default = True

    def apply(self, network: Network) -> Network:
        """See the module's docstring."""
        changed: dict[Value, Operator] = {}
        for stream in streams(network, through_norms=True):
            if _turns(stream):
                rotation = rotation_keeping_ones(stream.width, _SEED)
                for value in stream.readers:
                    changed[value] = _reading(changed.get(value, value.operator), rotation)
                for value in stream.writers:
                    changed[value] = _writing(changed.get(value, value.operator), rotation)
        return with_operators(network, changed)


def rotation_keeping_ones(width: int, seed: int) -> _Matrix:
    """A random orthogonal ``(width, width)`` float64 matrix ``R`` with ``R 1 = 1``."""
    rng = np.random.default_rng(seed)
    # The first column of the basis is the ones vector; the others span what is orthogonal to it.
    columns = np.column_stack([np.ones(width), rng.standard_normal((width, width - 1))])
    basis = np.linalg.qr(columns)[0]
    turned = basis.copy()
    turned[:, 1:] = basis[:, 1:] @ np.linalg.qr(rng.standard_normal((width - 1, width - 1)))[0]
    rotation: _Matrix = basis @ turned.T
    return rotation


def _turns(stream: Stream) -> bool:
    """Whether all that reads the stream and all that writes it can be turned."""
    layers = all(map(_is_layer, stream.readers))
    return layers and all(_is_layer(each) or each.is_constant for each in stream.writers)


def _is_layer(value: Value) -> bool:
    match value.operator:
        case Linear():
            return True
        case Convolution(groups=groups):
            return groups == 1
        case _:
            return False


def _product(array: Array, matrix: _Matrix) -> Array:
    """Turns each vector along the last axis, of which there may be several."""
    if array.shape[-1] == len(matrix):
        return (array @ matrix).astype(array.dtype)
    vectors = array.reshape(*array.shape[:-1], -1, len(matrix))
    return (vectors @ matrix).astype(array.dtype).reshape(array.shape)


def _writing(operator: Operator, rotation: _Matrix) -> Operator:
    match operator:
        case Constant(values=values):
            return Constant(_product(values, rotation))
        case Linear(weight=weight, bias=bias) | Convolution(weight=weight, bias=bias):
            weight, bias = (_product(each, rotation) for each in (weight, bias))
            return replace(operator, weight=weight, bias=bias)
        case _:
            raise AssertionError(f"{operator} writes no stream")


def _reading(operator: Operator, rotation: _Matrix) -> Operator:
    """Turns back each vector that the layer reads; a head may read several."""
    match operator:
        case Linear(weight=weight) | Convolution(weight=weight):
            vectors = weight.reshape(-1, len(rotation), weight.shape[-1])
            turned = np.matmul(rotation.T, vectors).astype(np.float32)
            return replace(operator, weight=turned.reshape(weight.shape))
        case _:
            raise AssertionError(f"{operator} reads no stream")


PLUGIN = RotateResidual()
