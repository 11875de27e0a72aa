"""Artefacts that were written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vitedge.artifacts.metadata import Metadata


@dataclass(frozen=True)
class Written:
    """An artefact that was written.

    Attributes:
        path: Its main file.
        metadata: The metadata in the file.
        lost: The loss against the budget of ``--max-drop``, in words; empty without a budget.
        compared_on: The images that its parity was measured on, in words.
    """

    path: Path
    metadata: Metadata
    lost: str = ""
    compared_on: str = ""
