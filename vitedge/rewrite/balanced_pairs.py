"""The best basis between two matrices, for numbers that are rounded in between.

Between two linear maps ``x W_1 W_2`` any invertible ``A`` may stand: ``(x W_1 A)(A⁻¹ W_2)``. If
``x W_1 A`` is rounded with one step for all channels, the step grows with the size of the numbers
and the rounding is multiplied by ``A⁻¹ W_2``, so the error of the product is proportional to::

    tr(Aᵀ C A) tr(A⁻¹ S A⁻ᵀ)    with    C = E[(x W_1)ᵀ (x W_1)],  S = W_2 W_2ᵀ

Its minimum over ``M = A Aᵀ`` is the geometric mean of ``C⁻¹`` and ``S``::

    M = C^(-1/2) (C^(1/2) S C^(1/2))^(1/2) C^(-1/2)

(set the derivative to zero: ``M C M = S``). ``A = M^(1/2) Q`` for any orthogonal ``Q``; a random
one spreads what is left of outliers over all channels. Where nothing was measured, ``W_1ᵀ W_1``
stands for ``C``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from vitedge.network.operators import Array

_Matrix = npt.NDArray[np.float64]

# Directions that one side hardly uses are not scaled up without bound: float32 has 24 bits, and
# the pair must come out as exact as it went in.
_FLOOR = 1e-3


def gram(matrix: Array) -> _Matrix:
    """``matrixᵀ matrix`` in float64."""
    wide = matrix.astype(np.float64)
    product: _Matrix = wide.T @ wide
    return product


@contextmanager
def on_one_core() -> Iterator[None]:
    """A BLAS of one thread, where there is a choice.

    Eigenvectors of the width of a head come no sooner by several, and where other programs want the
    cores these wait for one another.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        yield
        return
    with threadpool_limits(1):
        yield


def balancing(moments: _Matrix, reading: _Matrix, seed: int) -> tuple[_Matrix, _Matrix]:
    """The basis change ``A`` between two layers, and its inverse.

    Args:
        moments: ``C``, second moments of what the first layer writes, ``(width, width)``.
        reading: ``S``, what an error of one unit costs behind the second, ``(width, width)``.
        seed: Chooses the orthogonal part.
    """
    root, inverse_root = _roots(moments)
    middle, _ = _roots(root @ reading @ root)
    half, inverse_half = _roots(inverse_root @ middle @ inverse_root)
    rng = np.random.default_rng(seed)
    spread = np.linalg.qr(rng.standard_normal(half.shape))[0]
    return half @ spread, spread.T @ inverse_half


def _roots(matrix: _Matrix) -> tuple[_Matrix, _Matrix]:
    """Square root of a symmetric positive matrix, and its inverse."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    largest = values[-1] if values[-1] > 0 else 1.0
    root = np.sqrt(np.maximum(values, _FLOOR * largest))
    return (vectors * root) @ vectors.T, (vectors / root) @ vectors.T
