"""Fits of targets: the precisions that run on one, and what its device needs and refuses."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vitedge.targets.precisions import Precision


class DeviceLimits(StrEnum):
    """A kind of device, by what it cannot run; each format's folder has the rules."""

    NONE = "none"
    """Whatever the runtime loads."""
    TFLITE_DELEGATE = "tflite delegate"
    """GPUs and NPUs behind LiteRT: no more than four axes, no exotic operators."""
    ALL_INTEGER = "all-integer"
    """Ethos-U: a delegate, and no float anywhere."""
    HTP = "HTP"
    """Qualcomm's: whole operators, static ranges."""


@dataclass(frozen=True)
class Fit:
    """The precisions and forms that a target takes.

    Attributes:
        precisions: The precisions that run on it, the best first.
        limits: The limits of its device.
        rewrites: Rewrites that only its device needs.
    """

    precisions: tuple[Precision, ...]
    limits: DeviceLimits = DeviceLimits.NONE
    rewrites: tuple[str, ...] = ()


FLOATS = (Precision.FP16, Precision.FP32)
INT8_OR_FLOAT = (Precision.INT8, *FLOATS)
ALL_INTEGER = (Precision.W8A16, Precision.INT8_STATIC)

FOR_HALF = ("scale-residual",)
"""The stream is scaled where norms are computed in half precision."""
