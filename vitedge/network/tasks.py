"""What a model is for: what its outputs mean."""

from __future__ import annotations

from enum import StrEnum


class Task(StrEnum):
    """What a model's outputs mean."""

    CLASSES = "classes"
    """One of several classes is right; a softmax over the outputs gives their probabilities."""
