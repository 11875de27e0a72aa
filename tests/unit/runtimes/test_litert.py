"""LiteRT under its three names."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.support.target_artifacts import small_artifact
from vitedge.errors import ModelError
from vitedge.runtimes import Readiness, litert
from vitedge.runtimes._litert_compiled import CompiledSession, npu_options
from vitedge.runtimes._litert_npu import sdk_fault
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

SUCCESSOR, PREDECESSOR, TENSORFLOW = litert._PACKAGES


def skip_without_tensorflow() -> None:
    if find_spec("tensorflow") is None:  # importing it takes seconds
        pytest.skip("TensorFlow is not installed")


def test_the_successor_is_preferred_and_tensorflow_comes_last() -> None:
    names = [package for package, _ in litert._PACKAGES]
    assert names == ["ai-edge-litert", "tflite-runtime", "tensorflow"]


@pytest.mark.slow
# It says so of itself; who has nothing else is better served by it than by a refusal.
@pytest.mark.filterwarnings("ignore:\\s*Warning. tf.lite.Interpreter is deprecated:UserWarning")
def test_where_tensorflow_is_all_there_is_its_interpreter_runs_the_artefact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without_tensorflow()
    artifact = small_artifact(tmp_path, Format.TFLITE, Precision.FP32)
    logits = []
    for packages in ((SUCCESSOR,), (TENSORFLOW,)):
        monkeypatch.setattr(litert, "_PACKAGES", packages)
        state = litert.PLUGIN.availability("cpu")
        assert state.readiness is Readiness.READY
        assert state.detail.startswith(packages[0][0])
        session = litert.PLUGIN.open(artifact, "cpu", threads=1)
        noise = np.random.default_rng(0).integers(0, 256, session.input_shape, np.uint8)
        logits.append(session.run(noise))
        session.close()
    np.testing.assert_allclose(*logits, rtol=0, atol=1e-4)  # the same kernels, perhaps older


def test_only_the_successor_has_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    skip_without_tensorflow()
    monkeypatch.setattr(litert, "_PACKAGES", (TENSORFLOW,))
    for device in ("gpu", "npu"):
        state = litert.PLUGIN.availability(device)
        assert state.readiness is Readiness.MISSING
        assert "has no accelerators" in state.detail
        assert state.remedy == "Run: pip install ai-edge-litert"


def test_without_any_of_them_all_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = (("vitedge-absent-runtime", "nowhere"), ("vitedge-absent-too", "nowhere"))
    monkeypatch.setattr(litert, "_PACKAGES", absent)
    state = litert.PLUGIN.availability("cpu")
    assert state.readiness is Readiness.MISSING
    assert "vitedge-absent-runtime, vitedge-absent-too" in state.detail
    assert "pip install 'vitedge[tflite]'" in state.remedy


def test_an_npu_whose_compiler_cannot_be_loaded_is_an_error_and_not_the_cpu(tmp_path: Path) -> None:
    if litert.PLUGIN.availability("npu").readiness is not Readiness.MISSING:
        pytest.skip("LiteRT's NPU compiler loads here")
    artifact = small_artifact(tmp_path, Format.TFLITE, Precision.FP16)
    # With the CPU beside it, LiteRT would run this on XNNPACK and call it fully accelerated.
    with pytest.raises(ModelError, match=r"cannot compile .* for the npu"):
        CompiledSession(artifact, "npu", npu_options(emulated=True))


@pytest.mark.parametrize("is_whole", [False, True], ids=["empty", "whole"])
def test_a_vendors_package_that_was_installed_empty_is_told_from_a_whole_one(
    is_whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sdk_fault("samsung").endswith("is not installed")
    name = "ai_edge_litert_sdk_samsung"
    info = tmp_path / f"{name}-2.3.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.3.0\n")
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    if is_whole:
        (tmp_path / name / "data").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    fault = sdk_fault("samsung")
    assert fault == "" if is_whole else "installed but empty" in fault


def test_pixels_of_another_shape_are_refused_and_not_repeated(tmp_path: Path) -> None:
    artifact = small_artifact(tmp_path, Format.TFLITE, Precision.FP32)
    session = litert.PLUGIN.open(artifact, "cpu", threads=1)
    _, height, width, channels = session.input_shape
    for shape in ((1, height, width, 1), (1, 1, 1, channels), (height, width, channels)):
        with pytest.raises(ModelError, match="LiteRT failed on"):
            session.run(np.zeros(shape, np.uint8))
    session.close()


def test_pixels_may_lie_apart_in_memory_and_be_floats(tmp_path: Path) -> None:
    artifact = small_artifact(tmp_path, Format.TFLITE, Precision.FP32)
    session = litert.PLUGIN.open(artifact, "cpu", threads=1)
    pixels = np.random.default_rng(0).integers(0, 256, session.input_shape, np.uint8)
    expected = session.run(pixels)
    apart = np.repeat(pixels, 2, axis=2)[:, :, ::2]
    for each in (pixels.astype(np.float32), apart, pixels.astype(np.float64)):
        np.testing.assert_array_equal(session.run(each), expected)
    session.close()
