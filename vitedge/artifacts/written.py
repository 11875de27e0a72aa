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
        metadata: What it says of itself.
        lost: What it loses of ``--max-drop``'s budget, in words; empty without a budget.
        compared_on: What images its parity was measured on, in words.
    """

    path: Path
    metadata: Metadata
    lost: str = ""
    compared_on: str = ""
