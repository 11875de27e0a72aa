"""Bounds on the distance of an artefact's logits from its reference's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """The quality of logits that an artefact must keep.

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
