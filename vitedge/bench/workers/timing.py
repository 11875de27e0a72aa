"""Timing loops around one inference: warm-up until stable, then enough runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]

# A run is warm when the median of five is not over 2 % below the median of the five before.
_WINDOW = 5
_STILL_FALLING = 0.98


@dataclass(frozen=True)
class RunBudget:
    """Limits of timing; see ``messages.Measure`` for the fields."""

    runs: int | None
    settling_runs: int
    enough_runs: int
    enough_seconds: float
    wanted_runs: int
    max_seconds: float

    def is_spent(self, runs: int, seconds: float) -> bool:
        """Whether to stop after so many runs in so many seconds."""
        if self.runs is not None:
            return runs >= self.runs
        if runs >= self.enough_runs or (runs > 0 and seconds >= self.max_seconds):
            return True
        return runs >= self.wanted_runs and seconds >= self.enough_seconds


def warm_up(
    run: Callable[[], object], max_seconds: float, clock: Clock = time.perf_counter
) -> tuple[list[float], bool]:
    """Runs until the latency no longer falls, or the time is over.

    Returns:
        Milliseconds of each run, and whether they ended stable.
    """
    started = clock()
    samples: list[float] = []
    while True:
        samples.append(time_ms(run, clock))
        if len(samples) >= 2 * _WINDOW and len(samples) % _WINDOW == 0:
            before = statistics.median(samples[-2 * _WINDOW : -_WINDOW])
            if statistics.median(samples[-_WINDOW:]) >= _STILL_FALLING * before:
                return samples, True
        if clock() - started >= max_seconds:
            return samples, False


def measure(
    run: Callable[[], object],
    budget: RunBudget,
    on_run: Callable[[int], None],
    clock: Clock = time.perf_counter,
) -> list[float]:
    """Milliseconds of each run, in order; ``on_run`` is told their number outside the timing."""
    for _ in range(budget.settling_runs):
        run()
    started = clock()
    samples: list[float] = []
    while not budget.is_spent(len(samples), clock() - started):
        samples.append(time_ms(run, clock))
        on_run(len(samples))
    return samples


def time_ms(run: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """Milliseconds of one call."""
    started = clock()
    run()
    return (clock() - started) * 1000.0
