"""What LiteRT's benchmark_model prints, in the words of both programs of that name."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from vitedge.errors import ModelError, UsageError
from vitedge.remote.adb import HOME, AdbDevice
from vitedge.remote.benchmark_model import command, read_timings
from vitedge.report.results import Spread

LITERT = """\
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: Initialized session in 4.478ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=1055 first=1033 curr=473 min=443 max=1033 avg=465.319 std=18 p5=459 median=463 p95=478

INFO: Running benchmark for at least 1000 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=2112 first=463 curr=459 min=442 max=979 avg=464.545 std=13 p5=460 median=462 p95=478

INFO: [./litert/tools/benchmark_litert_model.h:81]\x20
========== BENCHMARK RESULTS ==========
INFO: [./litert/tools/benchmark_litert_model.h:82] Model initialization: 4.48 ms
INFO: [./litert/tools/benchmark_litert_model.h:84] Warmup (first):       1.03 ms
INFO: [./litert/tools/benchmark_litert_model.h:88] Inference (avg):      0.46 ms (2112 runs)
INFO: [./litert/tools/benchmark_litert_model.h:112]\x20
Memory Usage:
INFO: [./litert/tools/benchmark_litert_model.h:114] Init footprint:       8.94 MB
INFO: [./litert/tools/benchmark_litert_model.h:116] Overall footprint:    11.51 MB
INFO: [./litert/tools/benchmark_litert_model.h:118] Peak memory:          12.50 MB
"""  # noqa: E501  # as it prints them

TENSORFLOW_LITE = """\
STARTING!
The input model file size (MB): 16.9008
Initialized session in 17.187ms.
count=1 curr=3512391

count=50 first=1249964 curr=1240143 min=1238588 max=1252566 avg=1.24027e+06 std=2565

Inference timings in us: Init: 17187, First inference: 3512391, Warmup (avg): 3.51239e+06, Inference (avg): 1.24027e+06
Memory footprint delta from the start of the tool (MB): init=4.21094 overall=46.0859
Overall peak memory footprint (MB) via periodic monitoring: 93.2383
"""  # noqa: E501  # as it prints them


def test_litert_s_program_is_understood() -> None:
    found = read_timings(LITERT)
    assert found.latency_ms == Spread(0.442, 0.462, None, None, pytest.approx(0.464545), 2112)
    assert (found.load_ms, found.first_run_ms) == (4.48, 1.03)
    assert found.peak_rss_mb == pytest.approx(12.5 * 1.048576)
    assert found.unstable == ""


def test_tensorflow_lite_s_program_tells_no_median() -> None:
    found = read_timings(TENSORFLOW_LITE)
    assert found.latency_ms == Spread(1238.588, None, None, None, pytest.approx(1240.27), 50)
    assert (found.load_ms, found.first_run_ms) == (pytest.approx(17.187), pytest.approx(3512.391))
    assert found.peak_rss_mb == pytest.approx(93.2383 * 1.048576)


def test_a_few_runs_have_no_median_and_a_single_one_is_its_own_mean() -> None:
    few = read_timings("count=19 first=5 curr=5 min=4 max=6 avg=5 std=1 p5=4 median=5 p95=6")
    assert few.latency_ms == Spread(0.004, None, None, None, 0.005, 19)
    assert read_timings("count=1 curr=7000").latency_ms == Spread(7, None, None, None, 7, 1)
    same = read_timings("count=30 curr=7000(all same)").latency_ms
    assert same == Spread(7, 7, None, None, 7, 30)


def test_a_phone_that_was_disturbed_says_so() -> None:
    found = read_timings("count=50 first=9 curr=9 min=9 max=40 avg=12 std=9 median=10 p95=20")
    assert found.unstable == "one run in twenty took over 100 % longer than the median"


def test_memory_is_not_made_of_what_is_something_else() -> None:
    told = "Memory footprint delta from the start of the tool (MB): init=4.2 overall=46.1"
    assert read_timings(f"count=1 curr=7\n{told}").peak_rss_mb is None


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "Failed to load the model",
        "count=0",
        "count=0 ",
        "count=3 first=1 curr=1 min=0 max=1 avg=0.5 std=1",
        "count=3 curr=1e999",
        "count=3 curr=1.2.3",
        "count=1 nothing",
    ],
)
def test_what_is_no_time_is_an_error(printed: str) -> None:
    with pytest.raises(ModelError, match="benchmark_model printed"):
        read_timings(printed)


def test_runs_that_are_asked_for_are_as_many() -> None:
    program, file = HOME / "benchmark_model", HOME / "model.tflite"
    asked = command(program, file, threads=4, runs=30)
    assert asked[:2] == [str(program), f"--graph={file}"]
    assert {"--num_threads=4", "--num_runs=30", "--min_secs=0"} <= set(asked)
    assert "--min_secs=0" not in command(program, file, threads=4, runs=None)


@pytest.mark.parametrize("host", ["adb:", "adb:-s", "adb:a b", "adb:a;b", "adb:$(x)", "adb:a\n"])
def test_what_is_no_serial_number_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="names no device; write adb: and the serial number"):
        AdbDevice(host)


@pytest.mark.parametrize(
    "serial",
    [
        *("R58M123ABC", "emulator-5554", "192.168.1.5:5555", "[fe80::1%eth0]:5555"),
        "adb-R58M-x7gQ._adb-tls-connect._tcp",
    ],
)
def test_what_adb_lists_is_taken(serial: str) -> None:
    assert AdbDevice(f"adb:{serial}").serial == serial


@pytest.mark.parametrize("folder", ["there", "/a;b", "/$(x)", "~/x", "/a\nb"])
def test_a_folder_of_a_phone_is_named_from_the_root_on(folder: str) -> None:
    with pytest.raises(UsageError, match="is not a folder that can be named on an Android device"):
        AdbDevice("adb:R58M", PurePosixPath(folder))
