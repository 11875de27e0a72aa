"""tflite-npu ahead of time: LiteRT's plug-in for Qualcomm with Qualcomm's own libraries."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.support.target_artifacts import bench_one, small_artifact, small_vit
from tests.support.target_fixtures import htp_emulator, run_python
from vitedge.artifacts.metadata import read_metadata
from vitedge.errors import ConversionError, ModelError, PlacementError, UnavailableError
from vitedge.images.image_sets import ImageSet
from vitedge.images.samples import ArraySamples
from vitedge.inspection.operators import read_operators
from vitedge.pipeline.convert import ConvertOptions
from vitedge.pipeline.for_targets import convert_for
from vitedge.pipeline.keras_model import write_keras
from vitedge.report.results import Status
from vitedge.runtimes import Readiness
from vitedge.runtimes._litert_aot import CHIPS, compile_for_qualcomm
from vitedge.runtimes.litert import PLUGIN as LITERT
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

__all__ = ["htp_emulator"]

NPU = Target("tflite", "npu")
HAS_QUALCOMM = find_spec("onnxruntime_qnn") is not None
without_qualcomm = pytest.mark.skipif(HAS_QUALCOMM, reason="Qualcomm's libraries are installed")

WHERE = "from importlib.util import find_spec; print(find_spec('onnxruntime_qnn').origin)"


@pytest.fixture
def qualcomm(htp_emulator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Qualcomm's libraries in this environment too, for what is started from it as well."""
    package = Path(run_python(htp_emulator, "-c", WHERE).stdout.strip()).parent
    site = tmp_path / "qualcomm"
    site.mkdir()
    for part in (package, *package.parent.glob("onnxruntime_qnn-*.dist-info")):
        (site / part.name).symlink_to(part)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))


@without_qualcomm
def test_without_the_vendors_libraries_compiling_is_unavailable_with_what_brings_them(
    tmp_path: Path,
) -> None:
    state = LITERT.compiler("npu")
    assert state.readiness is Readiness.MISSING
    assert "libQnnHtp.so is missing" in state.detail
    with pytest.raises(UnavailableError, match="pip install onnxruntime-qnn"):
        LITERT.compile(tmp_path / "a.tflite", "npu", "sm8650", tmp_path / "b.tflite")
    assert "cannot compile for Qualcomm's NPU" in LITERT.availability("npu").detail


@without_qualcomm
def test_what_stops_the_vendors_compiler_is_said_in_its_own_words(tmp_path: Path) -> None:
    artifact = small_artifact(tmp_path, Format.TFLITE, Precision.FP16)
    with pytest.raises(ModelError, match=r"libQnnHtp\.so: cannot open shared object file"):
        compile_for_qualcomm(artifact, "sm8650", tmp_path / "compiled.tflite")
    assert not (tmp_path / "compiled.tflite").exists()


@pytest.mark.slow
@pytest.mark.parametrize("precision", [Precision.FP16, Precision.W8A16], ids=str)
def test_a_vit_is_compiled_wholly_for_a_chip_and_keeps_its_metadata(
    precision: Precision, qualcomm: None, tmp_path: Path
) -> None:
    assert "with the libraries of onnxruntime-qnn" in LITERT.compiler("npu").detail
    artifact = small_artifact(tmp_path, Format.TFLITE, precision)
    compiled = tmp_path / "compiled.tflite"
    LITERT.compile(artifact, "npu", "sm8650", compiled)
    assert read_metadata(compiled) == read_metadata(artifact)
    (operator,) = read_operators(compiled)
    assert operator.name == "CUSTOM DISPATCH_OP"
    elsewhere = bench_one(compiled, "tflite-cpu")
    assert elsewhere.status is Status.ERROR
    assert "DISPATCH_OP" in elsewhere.message


@pytest.mark.slow
def test_what_the_chip_leaves_to_the_cpu_is_refused_by_name(qualcomm: None, tmp_path: Path) -> None:
    artifact = small_artifact(tmp_path, Format.TFLITE, Precision.INT8_STATIC)
    with pytest.raises(PlacementError, match=r"2 operators of .*: SOFTMAX 'blocks\.0/softmax'"):
        LITERT.compile(artifact, "npu", "sm8750", tmp_path / "compiled.tflite")
    with pytest.raises(ModelError, match="sm0000"):
        LITERT.compile(artifact, "npu", "sm0000", tmp_path / "compiled.tflite")


@pytest.mark.slow
def test_convert_for_an_npu_compiles_for_each_chip_beside_the_portable_file(
    qualcomm: None, tmp_path: Path
) -> None:
    source = tmp_path / "small.keras"
    write_keras(small_vit(), source)
    noise = np.random.default_rng(1).integers(0, 256, (4, 64, 64, 3), np.uint8)
    images = ImageSet("noise", ArraySamples(noise, None))
    options = ConvertOptions(precisions=(), output=tmp_path)
    written = convert_for(source, [NPU], options, calibration=images)
    assert [each.path.name for each in written] == [
        "small.fp16.tflite-npu.tflite",
        *(f"small.fp16.tflite-npu-{chip}.tflite" for chip in CHIPS),
    ]
    integers = ConvertOptions(precisions=(Precision.INT8_STATIC,), output=tmp_path)
    with pytest.raises(ConversionError, match=r"tflite-npu does not run it: .* SOFTMAX"):
        convert_for(source, [NPU], integers, chips=["sm8650"], calibration=images)
