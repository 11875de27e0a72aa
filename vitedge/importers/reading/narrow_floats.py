"""Floats that NumPy has no type for, widened to float32 exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def bfloat16_widened(bits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """The upper half of float32: ``bits`` are uint16."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def float8_e4m3_widened(bits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Four bits of exponent, no infinity (``float8_e4m3fn``, arXiv:2209.05433): uint8."""
    values: npt.NDArray[np.float32] = _E4M3[bits]
    return values


def float8_e5m2_widened(bits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """The upper half of float16: ``bits`` are uint8."""
    return (bits.astype(np.uint16) << 8).view(np.float16).astype(np.float32)


def _e4m3_values() -> npt.NDArray[np.float32]:
    codes = np.arange(256)
    exponent, fraction = (codes >> 3) & 15, codes & 7
    normal = (1 + fraction / 8) * 2.0 ** (exponent - 7)
    values = np.where(exponent == 0, fraction / 8 * 2.0**-6, normal)
    values[codes & 127 == 127] = np.nan
    return np.where(codes >= 128, -values, values).astype(np.float32)


_E4M3 = _e4m3_values()
