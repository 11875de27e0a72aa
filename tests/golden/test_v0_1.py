"""What vitedge 0.1 wrote is still read: its ``.keras`` files and its artefacts."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vitedge
from vitedge.importers import read_model
from vitedge.network.evaluate import forward

GOLDEN = Path(__file__).parent / "v0_1"
MODELS = ("plain", "norms", "post")
ARTEFACTS = [
    f"model.{precision}.{suffix}"
    for precision in ("fp32", "int8")
    for suffix in ("tflite", "onnx", "xml")
]


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "expected.npz") as arrays:
        return dict(arrays)


def keras_file(name: str, folder: Path) -> Path:
    path = folder / f"{name}.keras"
    path.write_bytes(gzip.decompress((GOLDEN / f"{name}.keras.gz").read_bytes()))
    return path


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_read_without_keras(name, expected, tmp_path):
    imported = read_model(keras_file(name, tmp_path))
    assert imported.path == (
        "by name: vitedge (by hand)" if name == "norms" else "by name: vitedge"
    )
    assert imported.network.labels == (() if name == "post" else ("class 0", "class 1", "class 2"))
    logits = forward(imported.network, expected[f"{name}.pixels"])
    np.testing.assert_allclose(logits, expected[name], rtol=1e-5, atol=1e-5)  # float32


@pytest.mark.parametrize("name", MODELS)
def test_keras_loads_a_model_as_one_of_today(name, expected, tmp_path):
    import keras

    from vitedge.in_keras.model import from_keras

    path = keras_file(name, tmp_path)
    model = keras.saving.load_model(path)
    logits = np.asarray(model(expected[f"{name}.pixels"]))
    np.testing.assert_allclose(logits, expected[name], rtol=1e-4, atol=1e-4)  # float32
    network = read_model(path).network
    for (label, array), (other, found) in zip(
        network.named_arrays(), from_keras(model).named_arrays(), strict=True
    ):
        assert label == other
        np.testing.assert_array_equal(found, array, err_msg=label)
    # What is saved of it is as today's models are.
    model.save(tmp_path / "again.keras")
    again = read_model(tmp_path / "again.keras").network
    np.testing.assert_array_equal(
        forward(again, expected[f"{name}.pixels"]), forward(network, expected[f"{name}.pixels"])
    )


@pytest.mark.slow
def test_importing_vitedge_is_all_that_loading_needs(tmp_path):
    path = keras_file("plain", tmp_path)
    program = f"import vitedge, keras; keras.saving.load_model({str(path)!r})"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


@pytest.mark.parametrize("name", ARTEFACTS)
def test_an_artefact_answers_as_it_did(name, expected):
    with vitedge.load(GOLDEN / name) as model:
        logits = model.logits(list(expected["artefacts.pixels"]))
    # Integer kernels of another processor may round otherwise: a step of eight bits.
    atol = 1e-5 if "fp32" in name else 0.05
    np.testing.assert_allclose(logits, expected[name], rtol=1e-5, atol=atol)
