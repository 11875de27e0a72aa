"""Numbers out of raw times, and whether to believe them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vitedge.bench.results import Spread

# With fewer samples the percentile is decided by one or two of them.
_SAMPLES_NEEDED = {50: 20, 90: 100, 99: 1000}

# A quiet machine repeats an inference within a few percent; beyond these, something else ran.
_WIDE_SPREAD = 0.25
_DRIFT = 0.10
_BUSY_SHARE = 0.5


def summarize(samples_ms: Sequence[float]) -> Spread | None:
    """Minimum, mean and those percentiles that the number of samples allows.

    Percentiles are interpolated linearly between neighbours. None for no samples.
    """
    if not samples_ms:
        return None
    values = np.asarray(samples_ms, np.float64)
    p50, p90, p99 = (
        float(np.percentile(values, percent)) if len(values) >= needed else None
        for percent, needed in _SAMPLES_NEEDED.items()
    )
    return Spread(float(values.min()), p50, p90, p99, float(values.mean()), len(values))


def instability(
    samples_ms: Sequence[float], *, warm: bool, load_before: float | None, cores: int
) -> str:
    """Why these times are not to be trusted much, in words; empty when they are.

    Args:
        samples_ms: Warm runs, in order.
        warm: Whether the warm-up ended stable.
        load_before: Load average before the bench, or None.
        cores: Processors of the machine.
    """
    reasons = [] if warm else ["the warm-up did not become stable"]
    if len(samples_ms) >= _SAMPLES_NEEDED[50]:
        values = np.asarray(samples_ms, np.float64)
        median = float(np.median(values))
        wide = float(np.percentile(values, 90)) / median - 1
        if wide > _WIDE_SPREAD:
            reasons.append(f"one run in ten took over {100 * wide:.0f} % longer than the median")
        third = len(values) // 3
        drift = float(np.median(values[-third:]) / np.median(values[:third])) - 1
        if abs(drift) > _DRIFT:
            reasons.append(f"the median drifted by {100 * drift:+.0f} % while measuring")
    if load_before is not None and load_before > _BUSY_SHARE * cores:
        reasons.append(f"the machine was busy before (load {load_before:.1f} on {cores} cores)")
    return "; ".join(reasons)


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """95 % interval of a share, in percent (Wilson, 1927, doi:10.1080/01621459.1927.10502953)."""
    z = 1.959964  # the standard normal's 97.5th percentile
    share = right / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 100 / (1 + z * z / n)
    return max(0.0, (centre - half) * scale), min(100.0, (centre + half) * scale)
