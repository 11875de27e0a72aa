"""Counts how often heat or too little power has slowed the processor down."""

from __future__ import annotations

from pathlib import Path

_CPU_FOLDER = Path("/sys/devices/system/cpu")


def throttle_count(folder: Path = _CPU_FOLDER) -> int | None:
    """Times that any core was throttled since the system started; None where it is not told.

    x86 processors count them:
    https://docs.kernel.org/admin-guide/abi-testing.html (core_throttle_count).
    """
    found = []
    for counter in folder.glob("cpu[0-9]*/thermal_throttle/*_throttle_count"):
        try:
            found.append(int(counter.read_text()))
        except (OSError, ValueError):
            continue
    return sum(found) if found else None
