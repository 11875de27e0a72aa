"""Stands in for LiteRT's ``benchmark_model``: takes its options and prints its lines.

The program itself is offered for download alone. This one measures with the benchmark that LiteRT's
Python package has, so what it prints is true.
"""

from __future__ import annotations

import argparse
import sys
from argparse import Namespace

# As LiteRT's program prints them, on stderr:
# litert/tools/benchmark_litert_model.h and tflite/tools/benchmark/benchmark_model.cc
_RUNNING = (
    "INFO: Running benchmark for at least {} iterations and at least {} seconds but terminate if "
    "exceeding 60 seconds."
)
_WARM_UP = "INFO: count={} first={:.0f} curr=463 min=442 max=979 avg={:.6g} std=13 median=462"
_COUNTED = (
    "INFO: count={runs} first={max:.0f} curr={min:.0f} min={min:.0f} max={max:.0f} avg={avg:.6g} "
    "std=18 p5={p5:.0f} median={median:.0f} p95={p95:.0f}"
)
_RESULTS = """
INFO: [./litert/tools/benchmark_litert_model.h:81]
========== BENCHMARK RESULTS ==========
INFO: [./litert/tools/benchmark_litert_model.h:82] Model initialization: {load:.2f} ms
INFO: [./litert/tools/benchmark_litert_model.h:84] Warmup (first):       {first:.2f} ms
INFO: [./litert/tools/benchmark_litert_model.h:123] Peak memory:          {peak:.2f} MB
"""


def main() -> None:
    """Measures the file that the options name."""
    import resource

    from ai_edge_litert.tools.benchmark_litert_model import run_benchmark

    parser = argparse.ArgumentParser()
    parser.add_argument("--graph", required=True)
    for name in ("num_threads", "num_runs", "warmup_runs"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--max_secs", type=float, required=True)
    parser.add_argument("--min_secs", type=float, default=1.0)
    parser.add_argument("--report_peak_memory_footprint", required=True)
    asked = vars(parser.parse_args())
    switches = ("no_cpu", "use_gpu", "use_npu", "require_full_delegation", "verbose")
    texts = ("dispatch_library_path", "compiler_plugin_path", "runtime_path", "signature")
    rest = dict.fromkeys(switches, False) | dict.fromkeys((*texts, "result_json"), "")
    found = run_benchmark(Namespace(model=asked["graph"], **asked, **rest))["latency"]
    names = ("min", "max", "avg", "median", "p5", "p95")
    times = {name: found[f"{name}_ms"] * 1e3 for name in names}
    first, warm = found["warmup_first_ms"], found["num_warmup_runs"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lines = [
        _RUNNING.format(warm, 0.5),
        _WARM_UP.format(warm, first * 1e3, first * 1e3),
        _RUNNING.format(found["num_runs"], 1),
        _COUNTED.format(runs=found["num_runs"], **times),
        _RESULTS.format(load=found["init_ms"], first=first, peak=peak),
    ]
    print("\n".join(lines), file=sys.stderr)


if __name__ == "__main__":
    main()
