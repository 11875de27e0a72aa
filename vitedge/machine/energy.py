"""Energy, where the machine exposes it.

Intel's and AMD's RAPL counters say what the processor has used
(https://docs.kernel.org/power/powercap/powercap.html; most systems let only root read them), and a
battery's gauge what the whole device draws
(https://docs.kernel.org/power/power_supply_class.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_POWERCAP = Path("/sys/class/powercap")
_POWER_SUPPLY = Path("/sys/class/power_supply")

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


def battery_watts(folder: Path = _POWER_SUPPLY) -> float | None:
    """The power that the batteries give now, in watt; None where none is discharging."""
    found = [_watts(supply) for supply in sorted(folder.glob("*"))]
    known = [watts for watts in found if watts is not None]
    return sum(known) if known else None


def _watts(supply: Path) -> float | None:
    try:
        kind, status = ((supply / name).read_text().strip() for name in ("type", "status"))
        # A device's keyboard or pen has a battery too.
        scope = supply / "scope"
        is_ours = not scope.exists() or scope.read_text().strip() == "System"
        if (kind, status, is_ours) != ("Battery", "Discharging", True):
            return None
        if (supply / "power_now").exists():
            return abs(int((supply / "power_now").read_text())) / 1e6
        micro_volts = int((supply / "voltage_now").read_text())
        # Some drivers report a discharging current as negative.
        return micro_volts * abs(int((supply / "current_now").read_text())) / 1e12
    except (OSError, ValueError):
        return None
