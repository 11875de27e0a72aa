"""Measures the throughput of several sessions at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy.typing as npt

from vitedge.runtimes import Session


def saturate(
    sessions: Sequence[Session], pixels: npt.NDArray[Any], seconds: float
) -> tuple[int, float]:
    """Runs each session in a thread of its own; engines let go of Python's lock meanwhile.

    Args:
        sessions: The sessions, at least one, which nobody else uses.
        pixels: One batch.
        seconds: The time during which runs may begin.

    Returns:
        Images that went through, and the seconds until the last was done.

    Raises:
        ModelError: A session failed.
    """
    for session in sessions:
        session.run(pixels)  # the first run compiles and allocates
    started = time.perf_counter()

    def keep_running(session: Session) -> int:
        runs = 0
        while time.perf_counter() - started < seconds:
            session.run(pixels)
            runs += 1
        return runs

    with ThreadPoolExecutor(len(sessions)) as pool:
        runs = sum(pool.map(keep_running, sessions))
    return runs * len(pixels), time.perf_counter() - started
