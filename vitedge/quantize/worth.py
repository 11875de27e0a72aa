"""The time that a decibel is worth."""

from __future__ import annotations

import math

# Float multiplications take two to four times as long as integer ones.
WORTHWHILE_DB = 50.0
"""Least gain of what makes an artefact slower, in decibels, over its share of the time: half a
decibel for each percent of all multiplications."""

# No error at all is some 300 dB, not a division by zero.
_LEAST_ERROR = 1e-30


def decibels(signal: float, error: float) -> float:
    """The ratio of two energies."""
    return 10 * math.log10(max(signal, _LEAST_ERROR) / max(error, _LEAST_ERROR))
