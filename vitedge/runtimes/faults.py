"""Visible faults in the answers of a device that reports no error."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

NOT_FINITE = "the logits are not finite (NaN or infinity)"
"""The fault that outputs of no task may have; numbers and maps may well be zero for such inputs."""


def probe_pixels(shape: tuple[int, int, int, int]) -> list[npt.NDArray[np.uint8]]:
    """Three inputs of a shape that have nothing in common: noise, black and white."""
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return [noise, np.zeros_like(noise), np.full_like(noise, 255)]


def fault_of(logits: list[npt.NDArray[np.float32]]) -> str:
    """The visible fault of logits of different images; empty when there is none.

    Accelerators have been seen to return each of these without an error.
    """
    together = np.stack(logits)
    if not np.isfinite(together).all():
        return NOT_FINITE
    if not together.any():
        return "all logits are zero"
    if len(logits) > 1 and (together == together[0]).all():
        return "the logits do not depend on the image"
    return ""
