"""LiteRT under its three names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.target_artifacts import small_artifact
from vitedge.runtimes import Readiness, litert
from vitedge.spec import Format, Precision

SUCCESSOR, PREDECESSOR, TENSORFLOW = litert._PACKAGES


def test_the_successor_is_preferred_and_tensorflow_comes_last() -> None:
    names = [package for package, _ in litert._PACKAGES]
    assert names == ["ai-edge-litert", "tflite-runtime", "tensorflow"]


@pytest.mark.slow
# It says so of itself; who has nothing else is better served by it than by a refusal.
@pytest.mark.filterwarnings("ignore:\\s*Warning. tf.lite.Interpreter is deprecated:UserWarning")
def test_where_tensorflow_is_all_there_is_its_interpreter_runs_the_artefact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorflow")
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
    pytest.importorskip("tensorflow")
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
