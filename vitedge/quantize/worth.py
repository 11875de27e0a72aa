"""The time that a decibel is worth."""

from __future__ import annotations

import math

from vitedge.network.network import Value, macs_of
from vitedge.network.structure import weights

# Float multiplications take two to four times as long as integer ones.
WORTHWHILE_DB = 50.0
"""Least gain of what makes an artefact slower, in decibels, over its share of the time: half a
decibel for each percent of all multiplications."""

# A float weight that one token reads takes 0.2 to 0.3 ns, and an integer multiplication 0.01.
_READING = 25

# No error at all is some 300 dB, not a division by zero.
_LEAST_ERROR = 1e-30


def time_of(value: Value) -> int:
    """The time of a layer or a convolution, in integer multiplications; 0 of all else.

    Where few tokens share a weight, most of the time goes into reading it.
    """
    size = weights(value)
    return max(macs_of(value), _READING * size) if size else 0


def decibels(signal: float, error: float) -> float:
    """The ratio of two energies."""
    return 10 * math.log10(max(signal, _LEAST_ERROR) / max(error, _LEAST_ERROR))
