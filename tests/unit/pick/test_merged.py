"""`pick --minutes`: artefacts with fewer tokens beside the others, made again by their commands."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.support.models import random_images, random_network
from vitedge.cli import main
from vitedge.network.evaluate import forward
from vitedge.pick import fewer_tokens, made
from vitedge.pipeline.keras_model import write_keras


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of 36 patches, images that it names right, and others to calibrate on."""
    network = random_network(5, depth=4, image_size=(48, 48))
    write_keras(network, tmp_path / "model.keras")
    pixels = random_images(network, 24)
    labels = forward(network, pixels[:16]).argmax(axis=1)
    np.savez(tmp_path / "data.npz", images=pixels[:16], labels=labels)
    np.savez(tmp_path / "calibration.npz", images=pixels[16:])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pick(*more: str) -> Result:
    words = ["pick", "model.keras", "--data", "data.npz", "--calibration", "calibration.npz"]
    words += [
        "--target",
        "onnx-cpu",
        "--threads",
        "1",
        "--max-drop",
        "100",
        "--json",
        "report.json",
    ]
    return CliRunner().invoke(main, [*words, *more], catch_exceptions=False)


@pytest.mark.slow
def test_fewer_tokens_are_measured_named_and_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One share, and the promise that it is fastest, whatever this machine does.
    monkeypatch.setattr(fewer_tokens, "_SHARES", (0.7,))
    monkeypatch.setattr(fewer_tokens, "_FASTER", 100.0)
    result = pick("--minutes", "10", "--resume", "kept")
    assert result.exit_code == 0, result.output
    report = json.loads((folder / "report.json").read_text())
    merged = {row["artifact"]: row["merging"] for row in report["rows"] if row["merging"]}
    assert "model.tokens-0.7.int8.onnx" in merged
    assert all("after block" in words for words in merged.values())
    assert "tokens merged" in result.output
    command = shlex.split(report["pick"]["command"])[1:]
    path = folder / report["pick"]["artifact"]
    before = path.read_bytes()
    path.unlink()
    assert CliRunner().invoke(main, command).exit_code == 0
    assert path.read_bytes() == before

    path = folder / "model.tokens-0.7.int8.onnx"
    before = path.read_bytes()
    words = ["--calibration", "calibration.npz", "--int8", "--format", "onnx", "--tokens", "0.7"]
    words += ["--merge", "alike", "--name", "model.tokens-0.7", "--force"]
    again = CliRunner().invoke(main, ["convert", "model.keras", *words])
    assert again.exit_code == 0, again.output
    assert path.read_bytes() == before

    refused = pick("--minutes", "10")
    assert refused.exit_code == 2
    assert "--force" in refused.output

    monkeypatch.setattr(made, "convert", None)  # nothing is made again
    resumed = pick("--minutes", "10", "--resume", "kept", "--force")
    assert resumed.exit_code == 0, resumed.output
