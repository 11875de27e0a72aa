"""How far the logits of an artefact may be from its reference's, by precision."""

from __future__ import annotations

from dataclasses import dataclass

from vitedge.targets.precisions import Precision


@dataclass(frozen=True)
class Tolerance:
    """What an artefact must keep of its reference's logits.

    Attributes:
        relative_difference: Largest difference of any logit over the range of all logits, where
            the artefact is checked before it is published.
        sqnr_db: Least signal-to-noise ratio there, in decibel.
        drift_db: Least signal-to-noise ratio on any target, in decibel. Other engines sum in other
            orders and precisions; below this lies what a precision does not explain.
    """

    relative_difference: float
    sqnr_db: float
    drift_db: float


# The third number was measured on DeiT-tiny: float32 in another engine 85-110 dB, float16 weights
# 50-60, bfloat16 in place of float32 34, good int8 14-26, int8 that has lost its accuracy 3-5.
TOLERANCES = {
    # Sums in another order differ by 1e-6 of the range; a wrong epsilon or GELU by 1e-3.
    Precision.FP32: Tolerance(1e-4, 80.0, 50.0),
    # Weights rounded to 11 bits give 60 dB.
    Precision.FP16: Tolerance(1e-2, 40.0, 30.0),
    # A right int8 graph of a trained model gives 15 to 30 dB, a wrong one under 5.
    Precision.INT8: Tolerance(0.5, 10.0, 8.0),
    Precision.INT8_STATIC: Tolerance(0.5, 8.0, 7.0),
    # What is left is the rounding of int8 weights.
    Precision.W8A16: Tolerance(0.5, 15.0, 12.0),
    # 4-bit weights of a trained model give 12 to 20 dB.
    Precision.INT4: Tolerance(0.7, 6.0, 5.0),
}
