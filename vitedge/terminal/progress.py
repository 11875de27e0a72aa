"""The callback by which long work says how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much; 0 if unknown."""


def silent(what: str, done: int, total: int) -> None:
    """The progress callback of those who do not watch."""
