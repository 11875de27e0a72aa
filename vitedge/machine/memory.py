"""The memory that a process has needed."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_rss_mb(pid: int | None = None) -> float | None:
    """Peak resident set of a process so far in 10^6 bytes; None where nothing tells it.

    Args:
        pid: The number of another process; None means this one.
    """
    if sys.platform.startswith("linux"):
        # Not getrusage: Linux carries ru_maxrss over from the process that started this one.
        status = Path(f"/proc/{'self' if pid is None else pid}/status")
        try:
            lines = status.read_text().splitlines()
        except OSError:  # the other one has ended
            return None
        for line in lines:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
        return None
    if pid is not None:
        return None
    try:
        import resource
    except ImportError:  # Windows
        return None
    # macOS counts bytes where others count KiB (getrusage(2)).
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
