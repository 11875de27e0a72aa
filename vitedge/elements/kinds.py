"""The kinds of pooling, and where the blocks of a plain ViT normalise."""

from __future__ import annotations

from enum import StrEnum


class Pooling(StrEnum):
    """The tokens that the head reads, and how they become one vector."""

    CLASS = "class"
    """The first token."""
    DISTILLED = "distilled"
    """The first two tokens (class and distillation), concatenated: ``(2 * dim,)``."""
    MEAN = "mean"
    """The mean of the patch tokens."""
    CLASS_AND_MEAN = "class_and_mean"
    """The first token and the mean of the patch tokens, concatenated: ``(2 * dim,)``."""
    FLATTEN = "flatten"
    """All tokens, concatenated: ``(tokens * dim,)``."""


class NormPosition(StrEnum):
    """The place of the norms in a block."""

    PRE = "pre"
    """What its sublayers read (ViT)."""
    POST = "post"
    """The sums (BERT)."""
    BRANCH = "branch"
    """What its sublayers make, before it is added (SwinV2, timm's ``ResPostBlock``)."""
