"""Measures how much of the processors other programs had while this process was measured."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")
_IDLE_COLUMNS = (3, 4)  # idle and iowait, proc(5)
_COUNTED_COLUMNS = 8  # user to steal; guest time is part of user already


@dataclass(frozen=True)
class CpuTimes:
    """Seconds since boot, over all processors, and where this process stands."""

    busy: float
    total: float
    own: float


def read_cpu_times() -> CpuTimes | None:
    """The times now; None where the system does not tell."""
    try:
        columns = _STAT.read_text().split("\n", 1)[0].split()[1 : 1 + _COUNTED_COLUMNS]
    except OSError:
        return None
    tick = os.sysconf("SC_CLK_TCK")
    seconds = [int(column) / tick for column in columns]
    idle = sum(seconds[column] for column in _IDLE_COLUMNS)
    return CpuTimes(sum(seconds) - idle, sum(seconds), time.process_time())


def others_percent(before: CpuTimes | None, after: CpuTimes | None) -> float | None:
    """Percent of all processors' time that went to others; None where it is not known."""
    if before is None or after is None or after.total <= before.total:
        return None
    others = (after.busy - before.busy) - (after.own - before.own)
    return max(0.0, 100 * others / (after.total - before.total))
