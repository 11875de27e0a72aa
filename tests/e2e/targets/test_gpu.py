"""tflite-gpu on a software Vulkan driver: LiteRT's own accelerator, whose numbers count."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.target_artifacts import (
    bench_one,
    bench_small,
    product_with_itself,
    save_tflite,
    slice_that_drops_an_axis,
    small_artifact,
)
from tests.support.target_fixtures import software_vulkan
from tests.support.target_stock import save_stock_int8
from vitedge.bench.candidates import probe
from vitedge.report.results import Status
from vitedge.runtimes import Readiness
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

__all__ = ["software_vulkan"]

# Float differs by the order of sums; the GPU quantizes the inputs of int8 layers as the CPU does,
# so what remains is the error of int8 itself.
LEAST_SQNR_DB = {Precision.FP32: 90.0, Precision.FP16: 40.0, Precision.INT8: 15.0}


@pytest.mark.parametrize("precision", LEAST_SQNR_DB, ids=str)
def test_a_vit_runs_wholly_on_the_gpu_and_agrees_with_float(
    precision: Precision, software_vulkan: Path, tmp_path: Path
) -> None:
    row = bench_small(small_artifact(tmp_path, Format.TFLITE, precision), "tflite-gpu")
    assert row.status is Status.OK, row.message
    assert row.vs_float is not None
    assert row.vs_float.sqnr_db is not None
    assert row.vs_float.sqnr_db >= LEAST_SQNR_DB[precision]
    assert row.placement is not None
    assert row.placement.on_device == row.placement.total >= 60


def test_an_emulated_gpu_has_accuracy_and_no_time_whatever(
    software_vulkan: Path, tmp_path: Path
) -> None:
    row = bench_small(small_artifact(tmp_path, Format.TFLITE, Precision.FP32), "tflite-gpu")
    assert row.emulated
    assert row.accuracy is not None
    times = (row.latency_ms, row.load_ms, row.first_run_ms, row.preprocess_ms, row.energy_mj)
    assert set(times) == {None}
    assert row.samples_ms == ()


def test_a_software_driver_is_called_emulated_by_its_own_name(software_vulkan: Path) -> None:
    state = probe(Target("tflite", "gpu"), 60)
    assert state.readiness == Readiness.EMULATED
    assert "SwiftShader" in state.detail


def test_a_node_that_the_gpu_refuses_is_a_fallback_with_its_name(
    software_vulkan: Path, tmp_path: Path
) -> None:
    row = bench_one(save_tflite(tmp_path / "a.tflite", slice_that_drops_an_axis), "tflite-gpu")
    assert row.status is Status.FALLBACK
    assert "1 of 2 nodes" in row.message
    assert "STRIDED_SLICE: Slice does not support shrink_axis_mask" in row.message


def test_an_accelerator_that_aborts_is_a_crash_with_its_last_words(
    software_vulkan: Path, tmp_path: Path
) -> None:
    row = bench_one(save_tflite(tmp_path / "a.tflite", product_with_itself), "tflite-gpu")
    assert row.status is Status.CRASHED
    assert "Check failed" in row.message
    assert "already a consumer" in row.message


@pytest.mark.slow
def test_full_int8_that_the_gpu_computes_wrongly_without_a_word_is_a_drift(
    software_vulkan: Path, tmp_path: Path
) -> None:
    artifact = save_stock_int8(tmp_path / "stock.tflite")
    row = bench_small(artifact, "tflite-gpu")
    assert row.status is Status.DRIFT, row.message  # not FALLBACK: it takes every node
    assert bench_small(artifact, "tflite-cpu").status is Status.OK
