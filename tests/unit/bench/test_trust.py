from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.bench_artifacts import save_onnx, save_openvino
from tests.support.bench_fixtures import fake_runtime
from tests.support.bench_rows import make_row
from vitedge.bench import run
from vitedge.bench.run import BenchOptions, run_bench
from vitedge.bench.spread import ROUNDS, instability, paired_drop, pairwise_ratio, slowing
from vitedge.bench.verdict import judge
from vitedge.bench.workers.saturation import saturate
from vitedge.errors import UsageError
from vitedge.machine import environment
from vitedge.machine.contention import CpuTimes, others_percent
from vitedge.machine.energy import battery_watts, read_counters, used_mj
from vitedge.machine.environment import unsteadiness
from vitedge.machine.throttling import throttle_count
from vitedge.report.results import Ratio, Spread, Status
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

__all__ = ["fake_runtime"]


@pytest.mark.slow
def test_in_turns_every_artifact_gets_a_ratio_to_its_own_float32(
    fake_runtime: object, tmp_path: Path
) -> None:
    artifacts = [
        save_onnx(tmp_path / "a.fp32.onnx"),
        save_onnx(tmp_path / "a.int8.onnx", Precision.INT8),
        save_onnx(tmp_path / "b.int8.onnx", Precision.INT8, sha256="1" * 64),
    ]
    options = BenchOptions(threads=1, runs=25, interleave=True)
    report = run_bench(
        artifacts, [Target("fake", "slow"), Target("fake", "abort")], options=options
    )
    assert [(row.artifact, str(row.target)) for row in report.rows] == [
        (str(artifact), f"fake-{device}") for artifact in artifacts for device in ("slow", "abort")
    ]
    base, _, int8, _, other, _ = report.rows
    assert base.ratio is None
    assert other.ratio is None
    assert int8.ratio is not None
    assert (int8.ratio.baseline, int8.ratio.n) == (str(artifacts[0]), 10)
    assert int8.ratio.low <= int8.ratio.median <= int8.ratio.high
    # Both sleep for 3 ms; a scheduler adds to single runs, hardly to medians.
    assert int8.ratio.median == pytest.approx(1, abs=0.3)
    assert int8.latency_ms is not None
    assert int8.latency_ms.n == 30  # 25 runs in whole turns of three
    assert {row.status for row in report.rows[1::2]} == {Status.CRASHED}


def test_the_interval_of_a_ratio_leaves_out_one_pair_at_each_end() -> None:
    ratio = pairwise_ratio([1.0, 9.0, *[2.0] * 8], [1.0] * 10, "base")
    assert (ratio.low, ratio.median, ratio.high) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("low", "status"), [(1.01, Status.SLOWER), (0.99, Status.OK)], ids=["surely", "perhaps"]
)
def test_slower_in_turns_means_surely_slower(low: float, status: Status) -> None:
    base = make_row(10.0, artifact="base", precision=Precision.FP32, vs_float=None)
    row = make_row(30.0, ratio=Ratio("base", 1.1, low, 1.2, 10))
    assert judge((base, row))[1].status is status


@dataclass(frozen=True)
class Slower:
    id: str
    median_ms: float
    unstable: str
    status: Status


SLOWER = [
    Slower("within the margin of two equals", 10.3, "", Status.OK),
    Slower("beyond it", 11.0, "", Status.SLOWER),
    Slower("beyond it on a busy machine", 11.0, "the median drifted", Status.OK),
    Slower("clear of the spread on a busy machine", 20.0, "the median drifted", Status.SLOWER),
]


@pytest.mark.parametrize("case", SLOWER, ids=lambda case: case.id)
def test_slower_is_what_noise_does_not_explain(case: Slower) -> None:
    times = Spread(9.0, 10.0, 15.0, None, 10.0, 100)
    base = make_row(artifact="base", precision=Precision.FP32, vs_float=None, latency_ms=times)
    row = make_row(latency_ms=replace(times, p50=case.median_ms), unstable=case.unstable)
    assert judge((base, row))[1].status is case.status


def test_a_sustained_run_is_a_row_of_windows(fake_runtime: object, tmp_path: Path) -> None:
    options = BenchOptions(threads=2, runs=3, sustained_minutes=0.01, throughput=True)
    artifact = save_onnx(tmp_path / "model.onnx")
    (row,) = run_bench([artifact], [Target("fake", "slow")], options=options).rows
    assert row.status is Status.OK, row.message
    assert row.sustained[0].median_ms > 3
    assert row.sustained[0].n > 100
    one, two = row.throughput
    assert (one.parallel, one.threads, two.parallel, two.threads) == (1, 2, 2, 1)
    # The fake only sleeps, so two at once do nearly twice as much; a busy machine takes some.
    assert two.images_per_second > 1.3 * one.images_per_second


def test_throttling_is_said_and_getting_warm_is_not() -> None:
    assert "rose by 50 %" in slowing([10.0, 12.0, 15.0])
    assert slowing([10.0, 9.0, 9.5]) == ""
    assert slowing([10.0]) == ""


class OneMillisecond:
    """A session that notes how many images went through."""

    input_shape = (2, 4, 4, 3)

    def __init__(self) -> None:
        self.runs = 0

    def run(self, pixels: np.ndarray) -> np.ndarray:
        self.runs += 1
        return np.zeros((len(pixels), 1), np.float32)

    def placement(self) -> None:
        return None

    def close(self) -> None:
        pass


def test_throughput_counts_images_not_runs_and_not_the_first() -> None:
    sessions = [OneMillisecond(), OneMillisecond()]
    images, seconds = saturate(sessions, np.zeros((2, 4, 4, 3), np.uint8), 0.05)
    assert images == 2 * sum(session.runs - 1 for session in sessions)
    assert seconds >= 0.05


def test_the_share_of_others_is_what_was_busy_and_not_ours() -> None:
    before, after = CpuTimes(10.0, 100.0, 1.0), CpuTimes(16.0, 120.0, 6.0)
    assert others_percent(before, after) == pytest.approx(5.0)  # one second of twenty
    assert others_percent(None, after) is None
    assert others_percent(before, before) is None


def test_energy_adds_up_packages_and_survives_a_counter_that_wraps(tmp_path: Path) -> None:
    def write(zone: str, used: int) -> None:
        (tmp_path / zone).mkdir(exist_ok=True)
        (tmp_path / zone / "energy_uj").write_text(f"{used}\n")
        (tmp_path / zone / "max_energy_range_uj").write_text("10000\n")

    write("intel-rapl:0", 9000)
    write("intel-rapl:1", 1000)
    write("intel-rapl:0:0", 5)  # a core within package 0, counted there already
    before = read_counters(tmp_path)
    write("intel-rapl:0", 2000)
    write("intel-rapl:1", 3000)
    write("intel-rapl:0:0", 4000)
    assert used_mj(before, read_counters(tmp_path)) == 5.0
    assert used_mj({}, {}) is None


def test_minutes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="more than 0"):
        BenchOptions(sustained_minutes=0)


def write_supply(folder: Path, **facts: str) -> None:
    folder.mkdir(parents=True)
    for name, value in facts.items():
        (folder / name).write_text(f"{value}\n")


def test_batteries_that_discharge_add_up_and_nothing_else_counts(tmp_path: Path) -> None:
    discharging = {"type": "Battery", "status": "Discharging"}
    write_supply(tmp_path / "BAT0", **discharging, power_now="5000000")
    # 12 V and 0.25 A, as drivers say it that report no power.
    write_supply(tmp_path / "BAT1", **discharging, voltage_now="12000000", current_now="-250000")
    write_supply(tmp_path / "BAT2", type="Battery", status="Charging", power_now="9000000")
    write_supply(tmp_path / "mouse", **discharging, scope="Device", power_now="9000000")
    write_supply(tmp_path / "AC", type="Mains", online="0")
    assert battery_watts(tmp_path) == pytest.approx(8.0)
    assert battery_watts(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("newly_wrong", "newly_right", "n"), [(0, 0, 100), (7, 3, 500), (40, 0, 40), (1, 9, 50)]
)
def test_the_interval_of_a_drop_holds_the_drop_and_narrows_with_more_images(
    newly_wrong: int, newly_right: int, n: int
) -> None:
    drop = paired_drop(newly_wrong, newly_right, n)
    assert drop.points == pytest.approx(100 * (newly_wrong - newly_right) / n)
    assert drop.low < drop.high
    tenfold = paired_drop(10 * newly_wrong, 10 * newly_right, 10 * n)
    assert tenfold.high - tenfold.low < drop.high - drop.low
    mirrored = paired_drop(newly_right, newly_wrong, n)
    assert (mirrored.low, mirrored.high) == pytest.approx((-drop.high, -drop.low))


def test_the_interval_of_a_drop_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    outcomes = rng.multinomial(500, [0.02, 0.01, 0.97], 4000)
    intervals = [paired_drop(int(wrong), int(right), 500) for wrong, right, _ in outcomes]
    covered = np.mean([drop.low <= 1.0 <= drop.high for drop in intervals])
    # Of 4,000 trials the share is known to 0.4 points; the interval errs on the wide side.
    assert 0.94 < covered < 0.98


def test_throttling_is_counted_where_the_system_counts_it(tmp_path: Path) -> None:
    assert throttle_count(tmp_path) is None
    for core, times in (("cpu0", 3), ("cpu1", 4)):
        folder = tmp_path / core / "thermal_throttle"
        folder.mkdir(parents=True)
        (folder / "core_throttle_count").write_text(f"{times}\n")
        (folder / "package_throttle_count").write_text("1\n")
    assert throttle_count(tmp_path) == 9
    words = instability([1.0] * 30, warm=True, others_percent=0.0, throttled=True)
    assert words == "the processor slowed itself down (heat, or too little power)"


def test_a_machine_that_cannot_repeat_says_why() -> None:
    assert unsteadiness("performance", 0.2, 4) == ()
    assert unsteadiness("", None, 4) == ()
    governor, load, slowed = unsteadiness("ondemand, performance", 3.0, 4, "now: throttled")
    assert "'ondemand, performance'" in governor
    assert "3 processes on 4 processors" in load
    assert "slowed down, now: throttled" in slowed


@pytest.mark.thorough
def test_turns_go_across_runtimes_as_long_as_all_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = [save_onnx(tmp_path / "a.onnx"), save_openvino(tmp_path / "a.xml")]
    targets = [Target("onnx", "cpu"), Target("openvino", "cpu")]
    options = BenchOptions(threads=1, runs=20, interleave=True)

    def order() -> list[str]:
        """The runtimes of the turns, one after the other."""
        steps: list[str] = []
        run_bench(
            artifacts, targets, options=options, on_step=lambda step: steps.append(step.doing)
        )
        return [words.split("on ")[1][:4] for words in steps if "in turns" in words]

    assert order() == ["onnx", "open"] * ROUNDS
    small = environment.read_environment
    monkeypatch.setattr(run, "read_environment", lambda n: replace(small(n), memory_mb=200.0))
    assert order() == ["onnx"] * ROUNDS + ["open"] * ROUNDS
