"""How much longer one artefact takes than another, measured in pairs."""

from __future__ import annotations

import platform
import statistics
import time
from pathlib import Path

import numpy as np

from vitedge.runtimes import Session

_WARM_UP, _ROUNDS, _SECONDS = 10, 100, 4.0


def latency_ratio(ours: Session, theirs: Session, pixels: np.ndarray) -> float:
    """Median over rounds of four inferences that follow each other, of the processor's time.

    Where other programs want the cores, the time on the wall is mostly that of waiting for them,
    and what runs first after a wait finds its data gone from the caches. So each of the two begins
    half of a round.
    """
    try:
        for _ in range(_WARM_UP):
            ours.run(pixels), theirs.run(pixels)
        ratios: list[float] = []
        until = time.perf_counter() + _SECONDS
        while len(ratios) < _ROUNDS and (time.perf_counter() < until or len(ratios) < _WARM_UP):
            ratios.append(_round(ours, theirs, pixels))
        return statistics.median(ratios)
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


def _round(ours: Session, theirs: Session, pixels: np.ndarray) -> float:
    ours_first, theirs_second = _seconds(ours, pixels), _seconds(theirs, pixels)
    theirs_first, ours_second = _seconds(theirs, pixels), _seconds(ours, pixels)
    return (ours_first + ours_second) / (theirs_first + theirs_second)


def _seconds(session: Session, pixels: np.ndarray) -> float:
    started = time.process_time()
    session.run(pixels)
    return time.process_time() - started
