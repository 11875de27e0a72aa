"""Integer activations: what quantization leaves of them, and the static range that costs least."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from vitedge.network.operators import Array
from vitedge.quantize import Activations, Range
from vitedge.quantize.input_statistics import InputStatistics

LEVELS = 256

# Shares of the whole range that each end is tried at. Images not seen go a little further.
_SHARES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)

# A clipped number counts as if it were clipped by this factor: new images hold larger ones.
_CAUTION = 2


# Lengths of the negative side that are tried for inputs scaled token by token.
_NEGATIVE_SHARES = (1.0, 0.5, 0.25, 0.125)


def fake_quantized(x: Array, covered: Range) -> Array:
    """The values ``x`` after quantization and back."""
    scale, zero = covered.scale_and_zero_point()
    integers = np.rint(x * np.float32(1 / scale)) + np.float32(zero)
    kept: Array = (np.clip(integers, 0, covered.levels - 1) - np.float32(zero)) * np.float32(scale)
    return kept


def token_scaled_quantized(x: Array, covered: Range, floor: float) -> Array:
    """Quantizes each token divided by its largest number, and multiplies it back."""
    numbers = x if divides_by_largest(covered) else np.abs(x)
    largest = np.maximum(numbers.max(axis=-1, keepdims=True), np.float32(floor))
    kept: Array = fake_quantized(x / largest, covered) * largest
    return kept


def divides_by_largest(covered: Range) -> bool:
    """Whether tokens are divided by their largest number, and not by their largest magnitude.

    Where the range of the quotients begins above -1, no negative number is as large as the floor of
    the divisors (``token_scaled_range``), so magnitudes need not be computed.
    """
    return covered.low > -1


def dynamically_quantized(x: Array, axes: tuple[int, ...]) -> Array:
    """Asymmetric quantization to 256 levels between the extremes over ``axes``, and back.

    The range contains 0 and 0 is exact, as XNNPACK's qd8 (per token) and ONNX's
    DynamicQuantizeLinear (per tensor) have it.
    """
    low = x.min(axis=axes, keepdims=True, initial=0.0)
    high = x.max(axis=axes, keepdims=True, initial=0.0)
    scale = (high - low) / np.float32(LEVELS - 1)
    scale = np.where(scale > 0, scale, np.float32(1))
    zero = np.rint(-low / scale)
    integers = np.clip(np.rint(x / scale) + zero, 0, LEVELS - 1)
    kept: Array = ((integers - zero) * scale).astype(np.float32)
    return kept


def range_between(low: float, high: float) -> Range:
    """The range of all numbers between two; it contains 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    # An input that is always zero needs some range, whichever.
    return Range(low, high) if low < high else Range(0.0, 1.0)


def searched_range(statistics: InputStatistics) -> tuple[Range, float]:
    """The static range that costs the logits least, and what it costs.

    Returns:
        The range, and the squared error of one image's logits.
    """
    whole = range_between(float(statistics.low.min()), float(statistics.high.max()))
    if not len(statistics.rows):
        return whole, 0.0
    error = functools.cache(functools.partial(_range_error, statistics))
    best = _searched_ends(whole, error)
    return best, error(best)


def _searched_ends(whole: Range, error: Callable[[Range], float]) -> Range:
    """First the high end is searched with the whole low side, then the low end."""
    best = min((range_between(whole.low, whole.high * share) for share in _SHARES), key=error)
    lows = [range_between(whole.low * share, best.high) for share in _SHARES]
    return min((best, *lows), key=error)


def least_costly_range(whole: Range, rows: Array, weights: Array) -> Range:
    """The static range that rounds and clips with the least squared error.

    Args:
        whole: The range from the smallest to the largest value seen.
        rows: Some of what was seen, ``(rows, channels)``.
        weights: The weight of a squared error, in any unit, in a shape that ``rows`` broadcasts.
    """
    total = float(np.broadcast_to(weights, rows.shape).sum())

    def error(covered: Range) -> float:
        step, _ = covered.scale_and_zero_point()
        clipped = np.clip(rows, np.float32(covered.low), np.float32(covered.high)) - rows
        return total * step**2 / 12 + float((weights * np.square(_CAUTION * clipped)).sum())

    return _searched_ends(whole, error)


def token_scaled_range(statistics: InputStatistics) -> tuple[Range, float, float]:
    """Range and floor of an input that is divided by the largest magnitude of each token.

    GELU's negative side is short and the same for all tokens. A floor on the divisor keeps its
    quotient within a short negative side too, at the price of tokens below the floor.

    Returns:
        The range of the quotient, the floor, and the squared error of one image's logits.
    """
    largest = np.abs(statistics.rows).max(axis=1, initial=0.0)
    lowest = max(-float(statistics.low.min()), float(np.finfo(np.float32).tiny))

    def candidate(share: float) -> tuple[Range, float, float]:
        covered = Range(-share, 1.0)
        # A token below a sixteenth of all that was seen is not a token; it must not divide by zero.
        floor = lowest / (16 if share == 1 else share)
        step, _ = covered.scale_and_zero_point()
        divisors = np.maximum(largest, np.float32(floor))
        return covered, floor, statistics.rounding_error(divisors * np.float32(step))

    return min(map(candidate, _NEGATIVE_SHARES), key=lambda found: found[2])


def input_error(statistics: InputStatistics, activations: Activations) -> float:
    """The cost of quantizing this input: the squared error of one image's logits.

    The extremes of a tensor are taken for those of its sampled rows, which hold its largest
    tokens.
    """
    if activations in (Activations.STATIC, Activations.STATIC_OR_TOKEN_SCALED):
        return searched_range(statistics)[1]
    low = statistics.rows.min(axis=1, initial=0.0)
    high = statistics.rows.max(axis=1, initial=0.0)
    if activations is Activations.PER_TENSOR and len(statistics.rows):
        starts = np.flatnonzero(np.diff(statistics.images, prepend=-1))
        low = np.minimum.reduceat(low, starts)[statistics.images]
        high = np.maximum.reduceat(high, starts)[statistics.images]
    return statistics.rounding_error((high - low) / np.float32(LEVELS - 1))


def _range_error(statistics: InputStatistics, covered: Range) -> float:
    step, _ = covered.scale_and_zero_point()
    rows = statistics.rows
    clipped = np.clip(rows, np.float32(covered.low), np.float32(covered.high)) - rows
    return statistics.rounding_error(step) + statistics.clipping_error(_CAUTION * clipped)
