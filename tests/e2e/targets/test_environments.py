"""Targets whose packages exclude each other, each in an environment of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import target_onnx_graphs as graphs
from tests.support.target_artifacts import save_small_images, small_artifact
from tests.support.target_fixtures import bench_there, python_with, software_vulkan
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

__all__ = ["software_vulkan"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_images(tmp_path_factory.mktemp("images") / "noise")


def test_onnx_webgpu_runs_on_software_vulkan_and_refuses_integers(
    software_vulkan: Path, images: Path, tmp_path: Path
) -> None:
    python = python_with("onnxruntime-webgpu==1.27.0")
    float32 = small_artifact(tmp_path, Format.ONNX, Precision.FP32)
    row = bench_there(python, float32, "onnx-webgpu", "--data", images, "--reference", float32)
    assert row["status"] == "OK", row["message"]
    assert row["emulated"]
    assert row["latency_ms"] is None
    assert row["placement"]["on_device"] == row["placement"]["total"] >= 50
    assert row["vs_float"]["sqnr_db"] >= 90  # only the order of sums differs
    int8 = small_artifact(tmp_path, Format.ONNX, Precision.INT8)
    refused = bench_there(python, int8, "onnx-webgpu")
    assert refused["status"] == "FALLBACK"
    assert "DynamicQuantizeLinear" in refused["message"]


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8], ids=str)
def test_onnx_openvino_runs_on_the_cpu_with_times(
    precision: Precision, images: Path, tmp_path: Path
) -> None:
    python = python_with("onnxruntime-openvino==1.24.1")
    float32 = small_artifact(tmp_path, Format.ONNX, Precision.FP32)
    artifact = small_artifact(tmp_path, Format.ONNX, precision)
    row = bench_there(python, artifact, "onnx-openvino", "--data", images, "--reference", float32)
    assert row["status"] == "OK", row["message"]
    assert not row["emulated"]
    assert row["latency_ms"] is not None
    assert row["placement"]["on_device"] == row["placement"]["total"] >= 50
    assert row["vs_float"]["sqnr_db"] >= (90 if precision is Precision.FP32 else 15)


def test_tflite_npu_compiles_and_dispatches_by_intels_libraries_on_the_cpu(
    images: Path, tmp_path: Path
) -> None:
    python = python_with("ai-edge-litert==2.3.0", "openvino==2026.3.1")
    float32 = small_artifact(tmp_path, Format.TFLITE, Precision.FP32)
    artifact = small_artifact(tmp_path, Format.TFLITE, Precision.FP16)
    row = bench_there(python, artifact, "tflite-npu", "--data", images, "--reference", float32)
    assert row["status"] == "OK", row["message"]
    assert row["emulated"]
    assert row["latency_ms"] is None
    assert row["placement"]["on_device"] == row["placement"]["total"] >= 80
    assert row["vs_float"]["sqnr_db"] >= 30  # bfloat16, where the processor has it


def test_a_provider_that_is_not_in_the_package_is_unavailable_not_the_cpu(tmp_path: Path) -> None:
    python = python_with("onnxruntime-webgpu==1.27.0")
    path = graphs.save_graph(tmp_path / "erf.onnx", graphs.ERROR_FUNCTION)
    row = bench_there(python, path, "onnx-openvino")
    assert row["status"] == "UNAVAILABLE"
    assert "has only WebGpuExecutionProvider" in row["message"]
    assert "pip install onnxruntime-openvino" in row["message"]
