"""Activations, norms and softmax in NumPy: the oracle that every runtime is tested against."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from vitedge.network.kinds import Activation, NormKind
from vitedge.network.operators import Array, Norm

_GELU_PIECE = 1 << 15
_ERFC = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)

# Central differences of an activation: the error is the step's square, the rounding 1e-7 / step.
_STEP = np.float32(1e-2)


def normalize(x: Array, norm: Norm) -> Array:
    """LayerNorm (arXiv:1607.06450), RMSNorm (arXiv:1910.07467) or L2 norm over the last axis."""
    return scaled_by_norm(x, norm) * norm.gamma + norm.beta


def scaled_by_norm(x: Array, norm: Norm) -> Array:
    """The values that a norm makes before gamma and beta."""
    if norm.kind is NormKind.LAYER:
        x = x - mean(x, -1, keep=True)
    return x * inverse_deviation(x, norm)


def inverse_deviation(x: Array, norm: Norm) -> Array:
    """The factor of a norm for the numbers of a token, ``(..., 1)``.

    Args:
        x: ``(..., channels)``; of a LayerNorm, its mean is taken out already.
        norm: Its kind and epsilon.
    """
    squares = x * x
    if norm.kind is NormKind.L2:
        energy: Array = squares.sum(axis=-1, keepdims=True)
    else:
        energy = mean(squares, -1, keep=True)
    inverse: Array = np.float32(1) / np.sqrt(energy + np.float32(norm.eps))
    return inverse


def mean(x: Array, axis: int, *, keep: bool = False) -> Array:
    """The mean over an axis."""
    found: Array = x.mean(axis=axis, keepdims=keep)
    return found


def activate(x: Array, activation: Activation) -> Array:
    """Applies a non-linearity element by element."""
    # SciPy is part of the `convert` extra; the device side never comes here.
    from scipy.special import expit

    one, half = np.float32(1), np.float32(0.5)
    result: Array
    match activation:
        case Activation.GELU:
            result = _gelu(x)
        case Activation.GELU_TANH:
            inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
            gate: Array = np.tanh(inner)
            result = x * half * (one + gate)
        case Activation.QUICK_GELU:
            result = x * expit(np.float32(1.702) * x)
        case Activation.RELU:
            result = np.maximum(x, np.float32(0))
        case Activation.RELU6:
            result = np.clip(x, np.float32(0), np.float32(6))
        case Activation.HARD_SWISH:
            result = x * np.clip(x + np.float32(3), np.float32(0), np.float32(6)) / np.float32(6)
        case Activation.SIGMOID:
            result = expit(x)
        case Activation.SILU:
            result = x * expit(x)
        case Activation.TANH:
            result = np.tanh(x)
        case Activation.RECIPROCAL:
            result = one / x
    return result


def as_root_mean_square(norm: Norm) -> Norm:
    """An L2 norm as the RMS norm that computes the same: a sum is a mean times its number."""
    if norm.kind is not NormKind.L2:
        return norm
    count = len(norm.gamma)
    gamma = (norm.gamma / np.sqrt(count)).astype(np.float32)
    return replace(norm, gamma=gamma, eps=norm.eps / count, kind=NormKind.RMS)


def activation_slope(x: Array, activation: Activation) -> Array:
    """The derivative of an activation, by central differences where it has no pole."""
    if activation is Activation.RECIPROCAL:
        at_pole: Array = np.float32(-1) / (x * x)
        return at_pole
    difference = activate(x + _STEP, activation) - activate(x - _STEP, activation)
    slope: Array = difference / (2 * _STEP)
    return slope


def _gelu(x: Array) -> Array:
    """Exact GELU as ``max(x, 0) - |x| erfc(|x| / √2) / 2``.

    erfc is Abramowitz & Stegun's 7.1.26, whose error of 1.5e-7 is float32's own; it takes a quarter
    of the time of SciPy's erf. Pieces fit the processor's cache.
    """
    result = np.empty_like(x).reshape(-1)
    flat = x.reshape(-1)
    for start in range(0, flat.size, _GELU_PIECE):
        piece = flat[start : start + _GELU_PIECE]
        size = np.abs(piece)
        ratio = 1 / (1 + np.float32(0.3275911 * math.sqrt(0.5)) * size)
        tail = np.float32(_ERFC[0]) * ratio
        for coefficient in _ERFC[1:]:
            tail += np.float32(coefficient)
            tail *= ratio
        tail *= np.exp(np.float32(-0.5) * size * size)
        tail *= np.float32(0.5) * size
        np.subtract(np.maximum(piece, 0), tail, out=result[start : start + _GELU_PIECE])
    return result.reshape(x.shape)


def softmax(x: Array, counts: Array | None = None) -> Array:
    """Softmax over the last axis, of places that count as often as ``(N, places, 1)`` says."""
    exponentials: Array = np.exp(x - x.max(axis=-1, keepdims=True))
    if counts is not None:
        exponentials *= counts.reshape(len(counts), *(1,) * (x.ndim - 2), -1)
    total: Array = exponentials.sum(axis=-1, keepdims=True)
    return exponentials / total
