"""Inputs and outputs of graphs that take and give integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def quantize_input(
    pixels: npt.NDArray[Any], dtype: type[np.generic], scale: float, zero_point: int
) -> npt.NDArray[Any]:
    """Pixels as the dtype that the graph takes; integers by its scale and zero point."""
    if dtype == np.float32 or (dtype == np.uint8 and scale in (0.0, 1.0)):
        return np.ascontiguousarray(pixels, dtype)
    limits = np.iinfo(np.dtype(dtype))
    scaled = np.rint(pixels.astype(np.float32) / np.float32(scale)) + zero_point
    values: npt.NDArray[Any] = np.clip(scaled, limits.min, limits.max).astype(dtype)
    return values


def dequantize_output(
    raw: npt.NDArray[Any], scale: float, zero_point: int
) -> npt.NDArray[np.float32]:
    """Logits as float32."""
    if np.issubdtype(raw.dtype, np.floating):
        return np.asarray(raw, np.float32)
    return (raw.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
