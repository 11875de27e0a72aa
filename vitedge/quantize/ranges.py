"""The range of a static integer activation, searched by squared error."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitedge.quantize import Range
from vitedge.quantize.calibrate import InputStatistics
from vitedge.vit import Array

# Shares of the whole range that each end is tried at. A range that clips outliers is finer for
# everything else; ends below a quarter of the largest value have never won.
_SHARES = np.linspace(0.25, 1.0, 31)

# Numbers that the search looks at; more change the error of the chosen range by under 1 %.
_MOST_NUMBERS = 1 << 17

LEVELS = 256


def fake_quantized(x: Array, covered: Range) -> Array:
    """What is left of ``x`` after quantization to uint8 and back."""
    scale, zero = covered.scale_and_zero_point(LEVELS)
    integers = np.rint(x * np.float32(1 / scale)) + np.float32(zero)
    kept: Array = (np.clip(integers, 0, LEVELS - 1) - np.float32(zero)) * np.float32(scale)
    return kept


def whole_range(statistics: InputStatistics) -> Range:
    """From the smallest to the largest value seen."""
    return _containing_zero(float(statistics.low.min()), float(statistics.high.max()))


def searched_range(
    statistics: InputStatistics, importance: npt.NDArray[np.floating] | None = None
) -> Range:
    """The range with the least squared error on the sampled rows.

    The ends are searched in turn, twice: the low end with the high end held, and back.

    Args:
        statistics: Of the layer's input.
        importance: What the squared error of each channel counts, ``(inputs,)``: the squared norm
            of the weights that read the channel makes it the error of the layer's output.
    """
    whole = whole_range(statistics)
    step = -(-statistics.rows.size // _MOST_NUMBERS)
    rows = statistics.rows[::step]
    counts = np.ones(rows.shape[1]) if importance is None else importance

    def error(covered: Range) -> float:
        return float(((fake_quantized(rows, covered) - rows) ** 2).sum(axis=0) @ counts)

    best = whole
    for _ in range(2):
        highs = [_containing_zero(best.low, whole.high * share) for share in _SHARES]
        best = min((best, *highs), key=error)
        lows = [_containing_zero(whole.low * share, best.high) for share in _SHARES]
        best = min((best, *lows), key=error)
    return best


def _containing_zero(low: float, high: float) -> Range:
    low, high = min(low, 0.0), max(high, 0.0)
    # An input that is always zero needs some range, whichever.
    return Range(low, high) if low < high else Range(0.0, 1.0)
