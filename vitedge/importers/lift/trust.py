"""Says what to do about a file that has to be trusted."""

from __future__ import annotations

ADD_TRUST = (
    "if you trust its author, add --trust (which import, convert, inspect, pick and compare take)"
)
"""``train`` and ``bench`` then read what ``import`` or ``convert`` wrote."""
