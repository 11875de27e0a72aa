"""Integer activations: what quantization leaves of them, and the static range that costs least."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from vitedge.quantize import Activations, Range
from vitedge.quantize.input_statistics import InputStatistics
from vitedge.vit import Array

LEVELS = 256

Quantizer: TypeAlias = Callable[[Array], Array]
"""From numbers to what quantization leaves of them, both of one shape."""

# Shares of the whole range that each end is tried at. Images not seen go a little further.
_SHARES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)

# A clipped number counts as if it were clipped by this factor: new images hold larger ones.
_CAUTION = 2


def fake_quantized(x: Array, covered: Range) -> Array:
    """What is left of ``x`` after quantization to uint8 and back."""
    scale, zero = covered.scale_and_zero_point(LEVELS)
    integers = np.rint(x * np.float32(1 / scale)) + np.float32(zero)
    kept: Array = (np.clip(integers, 0, LEVELS - 1) - np.float32(zero)) * np.float32(scale)
    return kept


def dynamically_quantized(x: Array, axes: tuple[int, ...]) -> Array:
    """Asymmetric quantization to 256 levels between the extremes over ``axes``, and back.

    The range contains 0 and 0 is exact, as XNNPACK's qd8 (per token) and ONNX's
    DynamicQuantizeLinear (per tensor) have it.
    """
    low = x.min(axis=axes, keepdims=True)
    high = x.max(axis=axes, keepdims=True)
    return _between(x, low, high)


def _between(x: Array, low: Array, high: Array) -> Array:
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    scale = (high - low) / np.float32(LEVELS - 1)
    scale = np.where(scale > 0, scale, np.float32(1))
    zero = np.rint(-low / scale)
    integers = np.clip(np.rint(x / scale) + zero, 0, LEVELS - 1)
    kept: Array = ((integers - zero) * scale).astype(np.float32)
    return kept


def dynamic_quantizer(statistics: InputStatistics, activations: Activations) -> Quantizer:
    """What the runtime will do to the sampled rows.

    The extremes of a tensor are those of its sampled rows, which hold its largest tokens.
    """
    if activations is Activations.PER_TOKEN:
        return lambda rows: dynamically_quantized(rows, (-1,))

    def per_tensor(rows: Array) -> Array:
        starts = np.flatnonzero(np.diff(statistics.images, prepend=-1))
        low = np.minimum.reduceat(rows.min(axis=1), starts)[statistics.images]
        high = np.maximum.reduceat(rows.max(axis=1), starts)[statistics.images]
        return _between(rows, low[:, None], high[:, None])

    return per_tensor


def whole_range(statistics: InputStatistics) -> Range:
    """From the smallest to the largest value seen."""
    return _containing_zero(float(statistics.low.min()), float(statistics.high.max()))


def searched_range(statistics: InputStatistics) -> tuple[Range, float]:
    """The range that costs the logits least, and what it costs.

    First the high end is searched with the whole low side, then the low end.

    Returns:
        The range, and the squared error of one image's logits, clipped numbers counting double.
    """
    whole = whole_range(statistics)
    if not len(statistics.rows):
        return whole, 0.0

    def error(covered: Range) -> float:
        return _range_error(statistics, covered)

    highs = [_containing_zero(whole.low, whole.high * share) for share in _SHARES]
    best = min(highs, key=error)
    lows = [_containing_zero(whole.low * share, best.high) for share in _SHARES]
    best = min((best, *lows), key=error)
    return best, error(best)


def input_error(statistics: InputStatistics, activations: Activations) -> float:
    """What quantizing this input costs the logits: the squared error of one image.

    A static range is tried at few lengths; that is enough to tell two scalings apart.
    """
    rows = statistics.rows
    if activations is Activations.STATIC:
        whole = whole_range(statistics)
        return min(
            _range_error(statistics, Range(whole.low * share, whole.high * share))
            for share in (0.7, 0.85, 1.0)
        )
    return statistics.logit_error(dynamic_quantizer(statistics, activations)(rows) - rows)


def _range_error(statistics: InputStatistics, covered: Range) -> float:
    rows = statistics.rows
    clipped = np.clip(rows, np.float32(covered.low), np.float32(covered.high)) - rows
    rounded = fake_quantized(rows, covered) - rows
    return statistics.logit_error(rounded + (_CAUTION - 1) * clipped)


def _containing_zero(low: float, high: float) -> Range:
    low, high = min(low, 0.0), max(high, 0.0)
    # An input that is always zero needs some range, whichever.
    return Range(low, high) if low < high else Range(0.0, 1.0)
