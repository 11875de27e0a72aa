"""Callbacks that hear what happens while a function works."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import TypeAlias

Tell: TypeAlias = Callable[[str], None]
"""Called with one line of text."""


def python_warning(words: str) -> None:
    """Warns as Python does, at the line that called vitedge."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("vitedge."):
        level, frame = level + 1, frame.f_back
    warnings.warn(words, UserWarning, stacklevel=level)


def nobody(words: str) -> None:
    """Tells nobody."""
