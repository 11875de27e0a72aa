"""onnx-qnn on Qualcomm's own emulator of the HTP: a phone's arithmetic, at no one's speed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import target_onnx_graphs as graphs
from tests.support.target_artifacts import save_small_images, small_artifact
from tests.support.target_fixtures import bench_there, htp_emulator, run_python
from vitedge.artifacts.metadata import read_metadata
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

__all__ = ["htp_emulator"]

pytestmark = pytest.mark.slow  # the emulator may first have to be fetched, 100 MB

# The HTP computes floats in half: 50 dB were seen; 24 and 40 of the integers, where the CPU has 24
# and 38.
LEAST_SQNR_DB = {Precision.FP16: 40.0, Precision.INT8_STATIC: 18.0, Precision.W8A16: 30.0}

COMPILE = """
import sys
from pathlib import Path
from vitedge.runtimes import runtime_for
from vitedge.targets.target import Target
target = Target("onnx", "qnn")
runtime_for(target).compile(Path(sys.argv[1]), target.device, sys.argv[2], Path(sys.argv[3]))
"""

# ONNX Runtime makes the session all the same, and names the provider in get_providers().
OPEN_WITHOUT_BACKEND = """
import sys
from pathlib import Path
from vitedge.runtimes import _onnx_providers, runtime_for
from vitedge.targets.target import Target
_onnx_providers.qnn_options = lambda devices: {"backend_path": "/nowhere/libQnnHtp.so"}
runtime_for(Target("onnx", "qnn")).open(Path(sys.argv[1]), "qnn")
"""


@pytest.fixture(scope="module")
def float32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_artifact(tmp_path_factory.mktemp("float32"), Format.ONNX, Precision.FP32)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_images(tmp_path_factory.mktemp("images") / "noise")


@pytest.mark.parametrize("precision", LEAST_SQNR_DB, ids=str)
def test_a_vit_runs_wholly_on_the_htp_and_agrees_with_the_cpu(
    precision: Precision, htp_emulator: Path, float32: Path, images: Path, tmp_path: Path
) -> None:
    artifact = small_artifact(tmp_path, Format.ONNX, precision)
    comparison = ("--data", images, "--reference", float32)
    row = bench_there(htp_emulator, artifact, "onnx-qnn", *comparison)
    assert row["status"] == "OK", row["message"]
    assert row["emulated"]
    assert row["latency_ms"] is None
    assert row["placement"]["on_device"] == row["placement"]["total"] >= 50
    assert row["vs_float"]["sqnr_db"] >= LEAST_SQNR_DB[precision]


def test_a_context_binary_is_an_artefact_that_computes_the_same(
    htp_emulator: Path, float32: Path, images: Path, tmp_path: Path
) -> None:
    artifact = small_artifact(tmp_path, Format.ONNX, Precision.FP16)
    compiled = tmp_path / "small.fp16.sm8650.onnx"
    ended = run_python(htp_emulator, "-c", COMPILE, artifact, "sm8650", compiled)
    assert not ended.returncode, ended.stderr
    assert read_metadata(compiled) == read_metadata(artifact)
    comparison = ("--data", images, "--reference", float32)
    row = bench_there(htp_emulator, compiled, "onnx-qnn", *comparison)
    assert row["status"] == "OK", row["message"]
    assert row["vs_float"]["sqnr_db"] >= LEAST_SQNR_DB[Precision.FP16]
    elsewhere = bench_there(htp_emulator, compiled, "onnx-cpu")
    assert elsewhere["status"] == "ERROR"
    assert "EPContext" in elsewhere["message"]


def test_a_node_that_the_htp_refuses_is_a_fallback_with_its_name(
    htp_emulator: Path, tmp_path: Path
) -> None:
    path = graphs.save_graph(tmp_path / "erf.onnx", graphs.ERROR_FUNCTION)
    row = bench_there(htp_emulator, path, "onnx-qnn")
    assert row["status"] == "FALLBACK"
    assert "1 node of" in row["message"]
    assert "cannot run on qnn: Erf" in row["message"]


def test_dynamic_int8_is_a_fallback_and_not_a_run_on_the_cpu(
    htp_emulator: Path, tmp_path: Path
) -> None:
    artifact = small_artifact(tmp_path, Format.ONNX, Precision.INT8)
    row = bench_there(htp_emulator, artifact, "onnx-qnn")
    assert row["status"] == "FALLBACK"
    assert "cannot run on qnn" in row["message"]


def test_a_backend_that_cannot_start_is_a_refusal_and_not_the_cpu(
    htp_emulator: Path, float32: Path
) -> None:
    ended = run_python(htp_emulator, "-c", OPEN_WITHOUT_BACKEND, float32)
    assert ended.returncode
    assert "PlacementError" in ended.stderr
    assert "cannot run on qnn" in ended.stderr


def test_what_half_precision_cannot_hold_is_a_drift(
    htp_emulator: Path, images: Path, tmp_path: Path
) -> None:
    path = graphs.save_graph(tmp_path / "cube.onnx", graphs.BEYOND_HALF)
    row = bench_there(htp_emulator, path, "onnx-qnn", "--data", images, "--reference", path)
    assert row["status"] == "DRIFT"
    assert "fp32 should reach 50 dB" in row["message"]
