"""Chooses the artefact to ship: everything plausible is made and measured, and one is named."""

from __future__ import annotations
