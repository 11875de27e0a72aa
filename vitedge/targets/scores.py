"""The scores that an artefact gives for each class."""

from __future__ import annotations

from enum import StrEnum


class Scores(StrEnum):
    """The kind of score that an artefact gives for each class; the output has the same name."""

    LOGITS = "logits"
    """The head's numbers as they are: their softmax is what is probable."""
    PROBABILITIES = "probabilities"
    """Their softmax, or the sigmoid of each; see the task."""

    @property
    def middle(self) -> float:
        """The score of a label that is as likely right as wrong."""
        return 0.0 if self is Scores.LOGITS else 0.5
