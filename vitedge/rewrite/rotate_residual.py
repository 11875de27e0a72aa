"""Rotates the residual stream by an orthogonal matrix, so that outlier channels spread out.

Let ``R`` be orthogonal with ``R 1 = 1``: it keeps the mean and the length of a vector, and so a
LayerNorm without gamma and beta commutes with it::

    LN(x R) = LN(x) R

Every layer that writes the stream gets ``R`` behind it, every layer that reads a norm of it gets
``Rᵀ`` before it. With the norms' gamma and beta folded away there is no other reader or writer.
An RMSNorm would commute with any rotation; the same one is used. The idea is QuaRot's
(arXiv:2404.00456); keeping the ones vector is what lets the stock LayerNorm stay.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vitedge.vit import Array, Block, Linear, ViT

# Any rotation serves: one random rotation of DeiT-tiny is as good as another within 0.3 dB.
_SEED = 0

_Matrix = npt.NDArray[np.float64]


class RotateResidual:
    """A residual stream without outlier channels."""

    name = "rotate-residual"
    order = 60
    default = True

    def apply(self, vit: ViT) -> ViT:
        """See the module's docstring; nothing is done where a norm keeps its gamma or beta."""
        if not stream_norms_are_plain(vit):
            return vit
        rotation = rotation_keeping_ones(vit.config.dim, _SEED)
        if vit.head_hidden:
            first, *others = vit.head_hidden
            vit = replace(vit, head_hidden=(_reading(first, rotation), *others))
        else:
            vit = replace(vit, head=_reading(vit.head, rotation))
        return replace(
            vit,
            patch=_writing(vit.patch, rotation),
            prefix=_product(vit.prefix, rotation),
            positions=_product(vit.positions, rotation),
            blocks=tuple(_rotated(block, rotation) for block in vit.blocks),
        )


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


def stream_norms_are_plain(vit: ViT) -> bool:
    """Whether every norm of the residual stream has gamma 1 and beta 0."""
    return all(
        np.all(norm.gamma == 1) and np.all(norm.beta == 0)
        for name, norm in vit.named_norms()
        if not name.endswith(("q_norm", "k_norm"))
    )


def _rotated(block: Block, rotation: _Matrix) -> Block:
    return replace(
        block,
        q=_reading(block.q, rotation),
        k=_reading(block.k, rotation),
        v=_reading(block.v, rotation),
        out=_writing(block.out, rotation),
        fc1=_reading(block.fc1, rotation),
        fc2=_writing(block.fc2, rotation),
    )


def _product(array: Array, matrix: _Matrix) -> Array:
    return (array @ matrix).astype(np.float32)


def _writing(layer: Linear, rotation: _Matrix) -> Linear:
    return Linear(_product(layer.weight, rotation), _product(layer.bias, rotation))


def _reading(layer: Linear, rotation: _Matrix) -> Linear:
    """Turns back each vector that the layer reads; a head may read several."""
    vectors = layer.weight.reshape(-1, len(rotation), layer.weight.shape[1])
    turned = np.matmul(rotation.T, vectors).astype(np.float32)
    return replace(layer, weight=turned.reshape(layer.weight.shape))


PLUGIN = RotateResidual()
