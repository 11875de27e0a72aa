"""Numbers out of raw times, and whether to believe them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vitedge.report.quality import Drop
from vitedge.report.results import Ratio, Spread

# With fewer samples the percentile is decided by one or two of them.
_SAMPLES_NEEDED = {50: 20, 90: 100, 99: 1000}

# A quiet machine repeats an inference within a few percent; beyond these, something else ran.
_WIDE_SPREAD = 0.25
_DRIFT = 0.10
_BUSY_PERCENT = 10.0

_NORMAL_975 = 1.959964  # the standard normal's 97.5th percentile

ROUNDS = 10
"""Turns of a comparison; fewer allow no interval of 95 % without the extremes."""


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
    samples_ms: Sequence[float],
    *,
    warm: bool,
    others_percent: float | None,
    throttled: bool = False,
) -> str:
    """The reason not to trust these times much, in words; empty when there is none.

    Args:
        samples_ms: Warm runs, in order.
        warm: Whether the warm-up ended stable.
        others_percent: Percent of all processors' time that other programs had, or None.
        throttled: Whether the processor slowed itself down meanwhile.
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
    if others_percent is not None and others_percent > _BUSY_PERCENT:
        reasons.append(f"other programs had {others_percent:.0f} % of the processors meanwhile")
    if throttled:
        reasons.append("the processor slowed itself down (heat, or too little power)")
    return "; ".join(reasons)


def slowing(medians_ms: Sequence[float]) -> str:
    """Whether a sustained run ended slower than it began, in words; empty when not.

    Args:
        medians_ms: Median of each window, in order.
    """
    if len(medians_ms) < 2:
        return ""
    last = medians_ms[-1] / medians_ms[0] - 1
    if last <= _DRIFT:
        return ""
    return f"sustained, the median rose by {100 * last:.0f} % (heat, or other programs)"


def pairwise_ratio(ours_ms: Sequence[float], theirs_ms: Sequence[float], baseline: str) -> Ratio:
    """Ratio of medians measured in turns, pair by pair.

    Args:
        ours_ms: One median for each of ``ROUNDS`` turns.
        theirs_ms: The other artefact's, in the same turns.
        baseline: The other artefact.
    """
    ratios = sorted(ours / theirs for ours, theirs in zip(ours_ms, theirs_ms, strict=True))
    # The second and the ninth of ten hold the median between them with 97.9 % (binomial).
    return Ratio(baseline, float(np.median(ratios)), ratios[1], ratios[-2], len(ratios))


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """95 % interval of a share, in percent (Wilson, 1927, doi:10.1080/01621459.1927.10502953)."""
    z = _NORMAL_975
    share = right / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 100 / (1 + z * z / n)
    return max(0.0, (centre - half) * scale), min(100.0, (centre + half) * scale)


def paired_drop(newly_wrong: int, newly_right: int, n: int) -> Drop:
    """Top-1 lost on the same images, with the interval of Agresti and Min (2005).

    It adds half an image to each of the four outcomes, without which few or no flips would
    pretend to be certain.

    Args:
        newly_wrong: Images that only the other has right.
        newly_right: Images that only this one has right.
        n: All labelled images.
    """
    lost, adjusted = newly_wrong - newly_right, n + 2
    centre = lost / adjusted
    variance = (newly_wrong + newly_right + 1) - lost * lost / adjusted
    half = _NORMAL_975 * math.sqrt(variance) / adjusted
    return Drop(100 * lost / n, 100 * (centre - half), 100 * (centre + half), n)


def unpaired_drop(
    before: tuple[float, float, float], now: tuple[float, float, float], n: int
) -> Drop:
    """Top-1 lost on different images, with the interval of Newcombe (1998, method 10).

    Statistics in Medicine 17, pages 873 to 890.

    Args:
        before: Percent, and its Wilson interval.
        now: Percent, and its Wilson interval.
        n: Labelled images now.
    """
    lost = before[0] - now[0]
    low = lost - math.hypot(before[0] - before[1], now[2] - now[0])
    high = lost + math.hypot(before[2] - before[0], now[0] - now[1])
    return Drop(lost, low, high, n)


def mean_drop(lost: npt.NDArray[np.float64]) -> Drop:
    """The mean of what each image lost, with the normal interval of a mean.

    Args:
        lost: Points of each image.
    """
    mean, n = float(lost.mean()), len(lost)
    half = _NORMAL_975 * float(lost.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    return Drop(mean, mean - half, mean + half, n)
