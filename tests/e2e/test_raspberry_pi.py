"""Raspberry Pi OS 12 and 13: the arm64 wheels under emulation compute what x86 computes."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitedge
from tests.support.models import random_network
from tests.support.raspberry_pi import RELEASES, EmulatedPi, Release, Unobtainable, emulated_pi
from vitedge.artifacts.metadata import Metadata, Parity, Source
from vitedge.converters.tools import converter_for
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.recipe import quantize
from vitedge.remote.wheel import write_wheel
from vitedge.rewrite import apply_rewrites
from vitedge.targets.formats import all_formats
from vitedge.targets.precisions import Precision

PROGRAM = Path(__file__).parents[1] / "support" / "raspberry_pi_program.py"
PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8, Precision.INT4)
SIZE = 64

# Largest difference of a logit between the processors, over the range of the logits. Float sums in
# another order, 1e-6 over two blocks; fp16 files compute in float too. In int8 a value on the edge
# between two steps falls to either side: one step in 255 of the largest activation, a few times.
# In int4 inputs are quantized to 8 bits on one of them and stay float on the other.
TOLERANCES = {
    Precision.FP32: 1e-5,
    Precision.FP16: 1e-5,
    Precision.INT8: 0.02,
    Precision.INT4: 0.05,
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts of the two photos that scikit-learn carries."""
    from sklearn.datasets import load_sample_images

    folder = tmp_path_factory.mktemp("photos")
    for number, pixels in enumerate(load_sample_images().images):
        for left in (0, 200):
            part = Image.fromarray(pixels[100:340, left : left + 240])
            part.save(folder / f"{number}-{left}.png")
    return folder


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """One Network in every format and precision."""
    folder = tmp_path_factory.mktemp("artefacts")
    network = random_network(image_size=(SIZE, SIZE), patch_size=(16, 16), dim=48, mlp_dim=96)
    rewritten, rewrites = apply_rewrites(network)
    pixels = network.preprocessing.batch(sorted(photos.iterdir()))
    statistics = calibrate(rewritten, iter(pixels))
    for target in all_formats():
        for precision in PRECISIONS:
            converter = converter_for(target, precision)
            quantized = quantize(
                rewritten,
                precision,
                statistics,
                activations=converter.activations,
                groups=converter.groups,
            )
            metadata = Metadata(
                format=target,
                precision=precision,
                labels=network.labels,
                preprocessing=network.preprocessing,
                source=Source("random", "0" * 64, "a test"),
                rewrites=rewrites,
            )
            path = folder / f"model.{precision}{target.suffix}"
            converter.convert(quantized.network, quantized.recipe).save(path, metadata)
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module", params=RELEASES, ids=lambda release: release.suite)
def pi(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[EmulatedPi, Path]:
    """A Raspberry Pi with vitedge and all three runtimes."""
    release: Release = request.param
    site = tmp_path_factory.mktemp(release.suite) / "site"
    try:
        emulated = emulated_pi(release)
        emulated.install(site, [f"{wheel}[tflite,onnx,openvino]"])
    except Unobtainable as reason:
        pytest.skip(f"an emulated Raspberry Pi {reason}")
    return emulated, site


@pytest.mark.slow
def test_every_artefact_computes_on_the_pi_what_it_computes_here(
    pi: tuple[EmulatedPi, Path], artefacts: Path, photos: Path, tmp_path: Path
) -> None:
    emulated, site = pi
    here, there = tmp_path / "here.npz", tmp_path / "there.npz"
    ran = [PROGRAM, artefacts, photos]
    expected = json.loads(
        subprocess.run(
            [sys.executable, *ran, here], capture_output=True, text=True, check=True
        ).stdout
    )
    found = json.loads(emulated.run([*ran, there], site))
    assert found["machine"] == "aarch64"
    assert found["python"].startswith(emulated.release.python)
    assert len(found["named"]) == len(all_formats()) * len(PRECISIONS)
    assert found["named"] == expected["named"]
    with np.load(here) as ours, np.load(there) as theirs:
        assert set(ours) == set(theirs) == set(found["named"])
        for name in ours:
            parity = Parity.of(theirs[name], ours[name])
            tolerance = TOLERANCES[Precision(name.split(".")[1])]
            assert parity.relative_difference <= tolerance, name


@pytest.fixture(scope="module")
def old_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment as it was made in 2024: tflite-runtime 2.14 and NumPy 1."""
    if sys.version_info[:2] != (3, 11) or platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("tflite-runtime 2.14 has wheels for Python 3.11 at most, on 64-bit Linux")
    environment = tmp_path_factory.mktemp("old")
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    packages = ["tflite-runtime==2.14.0", "numpy<2", wheel]
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *packages],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"tflite-runtime 2.14 cannot be had: {done.stderr.strip().splitlines()[-1]}")
    return python


@pytest.mark.slow
def test_an_old_tflite_runtime_reads_float_and_says_what_it_cannot_read(
    old_python: Path, artefacts: Path, photos: Path, tmp_path: Path
) -> None:
    photo = next(iter(photos.iterdir()))

    def predict(artefact: Path) -> subprocess.CompletedProcess[str]:
        command = [old_python.with_name("vitedge"), "predict", "--top", "1", artefact, photo]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    for precision in (Precision.FP32, Precision.FP16):
        done = predict(artefacts / f"model.{precision}.tflite")
        assert done.returncode == 0, done.stderr
        with vitedge.load(artefacts / f"model.{precision}.tflite") as model:
            ((label, probability),) = model.classify(photo, top=1)
        assert done.stdout.split("\n")[1].strip() == f"{probability:.2%}  {label}"
    refused = predict(artefacts / "model.int8.tflite")
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert "tflite-runtime 2.14.0" in line
    assert "FULLY_CONNECTED" in line
    assert "pip install ai-edge-litert" in line
