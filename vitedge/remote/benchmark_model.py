"""LiteRT's ``benchmark_model``: its options, and what it prints.

There are two programs of that name, LiteRT's own and TensorFlow Lite's before it. They take the
same options and count alike, and sum up in other words:

https://github.com/google-ai-edge/LiteRT/blob/main/litert/tools/benchmark_litert_model.h
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/tools/benchmark/benchmark_model.cc
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from vitedge.errors import ModelError
from vitedge.report.results import Spread

WHERE = "https://ai.google.dev/edge/litert/next/benchmark"
"""Where its makers offer it."""

_RUNS, _WARM_UP_RUNS, _MOST_SECONDS = 100, 10, 60
# A median of fewer is decided by one or two of them.
_RUNS_FOR_A_MEDIAN = 20
# A quiet phone repeats a run within a few percent; beyond this something else ran.
_WIDE_SPREAD = 0.25
_BYTES_OF_A_MEBIBYTE = 1 << 20

_NUMBER = r"([0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)(?![0-9.])"
_COUNT = re.compile(r"\bcount=([0-9]+) (.*)")
_FIELD = re.compile(rf"\b([a-z0-9]+)={_NUMBER}")
_LOAD = (re.compile(rf"Init: {_NUMBER}"), re.compile(rf"Model initialization: *{_NUMBER} ms"))
_FIRST = (
    re.compile(rf"First inference: {_NUMBER}"),
    re.compile(rf"Warmup \(first\): *{_NUMBER} ms"),
)
_PEAK = (
    re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: {_NUMBER}"),
    re.compile(rf"Peak memory: *{_NUMBER} MB"),
)


@dataclass(frozen=True)
class Timings:
    """The result of a benchmark.

    Attributes:
        load_ms: Loading the file and preparing the engine; None where it does not tell.
        first_run_ms: The first inference; None where it does not tell.
        latency_ms: The latencies of the runs that count.
        peak_rss_mb: Most memory of its process in 10^6 bytes, or None.
        unstable: The reason why the times are unreliable; empty if they are reliable.
    """

    load_ms: float | None
    first_run_ms: float | None
    latency_ms: Spread
    peak_rss_mb: float | None
    unstable: str


def command(
    program: PurePosixPath, artifact: PurePosixPath, *, threads: int, runs: int | None
) -> list[str]:
    """The options of a run.

    Args:
        program: The program's place on the device.
        artifact: The file, there.
        threads: CPU threads.
        runs: Exactly so many; None means a hundred at least, fewer only where they take a minute.
    """
    exactly = [] if runs is None else ["--min_secs=0"]
    return [
        str(program),
        f"--graph={artifact}",
        f"--num_threads={threads}",
        f"--num_runs={runs or _RUNS}",
        f"--warmup_runs={_WARM_UP_RUNS}",
        f"--max_secs={_MOST_SECONDS}",
        *exactly,
        "--report_peak_memory_footprint=true",
    ]


def read_timings(printed: str) -> Timings:
    """Reads what it printed on stdout and stderr.

    Raises:
        ModelError: The program printed no times of runs, or impossible ones.
    """
    # The first such line, if there are two, is of the warm-up.
    counts = _COUNT.findall(printed)
    if not counts:
        raise ModelError("benchmark_model printed no times of runs")
    runs, rest = counts[-1]
    fields = {name: float(value) for name, value in _FIELD.findall(rest)}
    # Runs that all took the same time, or a single one, are printed as the last of them.
    times = {name: fields.get(name, fields.get("curr", 0.0)) for name in ("min", "avg", "median")}
    is_told = "median" in fields or "min" not in fields
    median = times["median"] if is_told and int(runs) >= _RUNS_FOR_A_MEDIAN else None
    if not all(math.isfinite(each) and each > 0 for each in times.values()) or int(runs) < 1:
        raise ModelError("benchmark_model printed times that cannot be")
    spread = Spread(
        times["min"] / 1e3,
        None if median is None else median / 1e3,
        None,
        None,
        times["avg"] / 1e3,
        int(runs),
    )
    peak = _first_of(_PEAK, printed, (1.0, 1.0))
    return Timings(
        load_ms=_first_of(_LOAD, printed, (1e-3, 1.0)),
        first_run_ms=_first_of(_FIRST, printed, (1e-3, 1.0)),
        latency_ms=spread,
        peak_rss_mb=None if peak is None else peak * _BYTES_OF_A_MEBIBYTE / 1e6,
        unstable=_instability(median, fields.get("p95")),
    )


def _first_of(
    patterns: tuple[re.Pattern[str], ...], printed: str, factors: tuple[float, ...]
) -> float | None:
    """The number behind the first pattern that stands there, times that pattern's factor."""
    for pattern, factor in zip(patterns, factors, strict=True):
        if found := pattern.search(printed):
            return float(found[1]) * factor
    return None


def _instability(median: float | None, p95: float | None) -> str:
    if median is None or p95 is None or p95 <= (1 + _WIDE_SPREAD) * median:
        return ""
    percent = 100 * (p95 / median - 1)
    return f"one run in twenty took over {percent:.0f} % longer than the median"
