"""How much memory this process has needed."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_rss_mb() -> float | None:
    """Peak resident set of this process so far in 10^6 bytes; None where nothing tells it."""
    if sys.platform.startswith("linux"):
        # Not getrusage: Linux carries ru_maxrss over from the process that started this one.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
        return None
    try:
        import resource
    except ImportError:  # Windows
        return None
    # macOS counts bytes where others count KiB (getrusage(2)).
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
