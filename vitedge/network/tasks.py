"""The tasks of models: the meanings of their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum


class Task(StrEnum):
    """The meaning of a model's main output."""

    CLASSES = "classes"
    """One of several classes is right; a softmax over the logits gives their probabilities."""
    BINARY = "binary"
    """Yes or no: a sigmoid of the one logit gives the probability of yes."""
    LABELS = "labels"
    """Each label is right or not by itself; a sigmoid of its logit gives its probability."""
    NUMBERS = "numbers"
    """Measured values, such as an age or a price: they are taken as they are."""
    EMBEDDING = "embedding"
    """A vector to compare with those of other images, or one vector for each token."""
    MAP = "map"
    """Numbers for each place of the image, ``(H, W)`` or ``(H, W, C)``: depth, saliency, masks."""

    @property
    def output(self) -> str:
        """The name of the main output, in networks and in artefacts."""
        return "logits" if self.has_logits else str(self)

    @property
    def has_logits(self) -> bool:
        """Whether probabilities are made of what the model gives."""
        return self in (Task.CLASSES, Task.BINARY, Task.LABELS)

    @property
    def words(self) -> str:
        """The name of the outputs, for messages."""
        return _WORDS[self]

    def misfit(self, shape: Sequence[int]) -> str:
        """The reason why an output of this shape cannot mean this; empty where it can."""
        axes = [size for size in shape if size > 1]
        match self:
            case Task.CLASSES if len(axes) != 1:
                return "classes are a vector of two logits or more"
            case Task.BINARY if axes:
                return "a binary model gives one number"
            case Task.LABELS | Task.NUMBERS if len(axes) > 1:
                return f"{self} are a vector"
            case Task.EMBEDDING if not 1 <= len(axes) <= 2:
                return "an embedding is a vector, or one vector for each token"
            case Task.MAP if not 2 <= len(axes) <= 3:
                return "a map has rows and columns"
            case _:
                return ""

    def label_counts(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The numbers of names for an output of this shape; binary: of yes, or of no and yes."""
        match self:
            case Task.BINARY:
                return (1, 2)
            case Task.EMBEDDING:
                return (0,)
            case Task.MAP:
                return (shape[2] if len(shape) > 2 else 1,)
            case _:
                return (shape[-1],)


_WORDS = {
    Task.CLASSES: "logits of classes, of which one is right",
    Task.BINARY: "the logit of yes or no",
    Task.LABELS: "logits of labels, each right or not by itself",
    Task.NUMBERS: "measured numbers",
    Task.EMBEDDING: "an embedding",
    Task.MAP: "a map of the image",
}
