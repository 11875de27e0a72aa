"""How much longer one artefact takes than another, measured in pairs."""

from __future__ import annotations

import platform
import statistics
import time
from pathlib import Path

import numpy as np

from vitedge.runtimes import Session

_WARM_UP, _PAIRS, _SECONDS = 10, 200, 4.0


def latency_ratio(ours: Session, theirs: Session, pixels: np.ndarray) -> float:
    """Ratio of the medians of the processor's time, over inferences in turns.

    Where other programs want the cores, the time on the wall is mostly that of waiting for them.
    After each wait the caches are cold, and inferences get faster until the next. So the second of
    a pair is faster in nearly every pair: the median of the pairs' ratios said 1.06 of two files
    that take the same time, whichever began. Here each begins every other pair.
    """
    both = ours, theirs
    seconds: tuple[list[float], list[float]] = ([], [])
    try:
        for _ in range(_WARM_UP):
            ours.run(pixels), theirs.run(pixels)
        until = time.perf_counter() + _SECONDS
        for pair in range(_PAIRS):
            if pair >= _WARM_UP and time.perf_counter() > until:
                break
            for which in (pair % 2, 1 - pair % 2):
                seconds[which].append(_seconds(both[which], pixels))
        return statistics.median(seconds[0]) / statistics.median(seconds[1])
    finally:
        ours.close()
        theirs.close()


def products_here() -> str:
    """The instructions for products of 8 bits: AMX, VNNI or AVX2; else the kind of the machine."""
    about = Path("/proc/cpuinfo")
    flags = about.read_text("utf-8") if about.exists() else ""
    if "amx_int8" in flags:
        return "AMX"
    if "avx512_vnni" in flags or "avx_vnni" in flags:
        return "VNNI"
    return "AVX2" if "avx2" in flags else platform.machine()


def _seconds(session: Session, pixels: np.ndarray) -> float:
    started = time.process_time()
    session.run(pixels)
    return time.process_time() - started
