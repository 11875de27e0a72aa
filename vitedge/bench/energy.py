"""Energy that the processor says it has used: Intel's and AMD's RAPL counters.

https://docs.kernel.org/power/powercap/powercap.html; most systems let only root read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_POWERCAP = Path("/sys/class/powercap")

Counters = Mapping[str, tuple[int, int]]
"""Microjoule so far and where the counter wraps, by processor package."""


def read_counters(folder: Path = _POWERCAP) -> Counters:
    """The counters of each processor package that lets itself be read."""
    found = {}
    # Zones with one colon are whole packages; their parts would count twice.
    for zone in sorted(folder.glob("intel-rapl:[0-9]*")):
        if zone.name.count(":") != 1:
            continue
        try:
            used = int((zone / "energy_uj").read_text())
            found[zone.name] = (used, int((zone / "max_energy_range_uj").read_text()))
        except (OSError, ValueError):
            continue
    return found


def used_mj(before: Counters, after: Counters) -> float | None:
    """Millijoule between two readings; None where nothing was read."""
    packages = before.keys() & after.keys()
    if not packages:
        return None
    total = 0
    for package in packages:
        (start, wrap), (end, _) = before[package], after[package]
        total += end - start if end >= start else end - start + wrap
    return total / 1000
