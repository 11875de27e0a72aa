"""Measures how often two models answer the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitedge.network.tasks import Task


def agreement(
    task: Task, made: npt.NDArray[np.float32], reference: npt.NDArray[np.float32], middle: float
) -> float | None:
    """The share of images on which two models answer the same, 0..1; None for other outputs.

    Args:
        task: The meaning of the outputs.
        made: The outputs of one model, ``(N, classes)``.
        reference: The outputs of the other model.
        middle: The score of a label that is as likely right as wrong.
    """
    match task:
        case Task.CLASSES:
            return float((made.argmax(axis=1) == reference.argmax(axis=1)).mean())
        case Task.BINARY | Task.LABELS:
            return float(((made > middle) == (reference > middle)).mean())
        case _:
            return None
