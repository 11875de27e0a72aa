"""`pick --minutes`: artefacts that do less beside the others, made again by their commands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.support.models import random_images, random_network
from vitedge.artifacts.written import Written
from vitedge.cli import main
from vitedge.errors import ConversionError
from vitedge.importers import ImportOptions
from vitedge.network.evaluate import forward
from vitedge.pick import made, promises, search
from vitedge.pick.savings import SAVINGS, Level
from vitedge.pipeline.compared_images import divide
from vitedge.pipeline.keras_model import write_keras
from vitedge.pipeline.open_model import OpenModel
from vitedge.pipeline.options import ConvertOptions
from vitedge.pipeline.verified_write import artifact_path
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.terminal.progress import silent


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


def only_level(monkeypatch: pytest.MonkeyPatch, name: str, level: Level) -> None:
    """Leaves one saving, of one size."""
    saving = next(each for each in SAVINGS if each.name == name)
    only = replace(saving, usual_loss=0.0, levels=lambda network: [level])
    monkeypatch.setattr(search, "SAVINGS", (only,))


def assert_made_again(folder: Path, name: str, *saving: str) -> None:
    """The command line that the page shows for an artefact makes the same bytes."""
    path = folder / f"{name}.int8.onnx"
    before = path.read_bytes()
    words = ["--calibration", "calibration.npz", "--int8", "--format", "onnx", *saving]
    words += ["--name", name, "--force"]
    again = CliRunner().invoke(main, ["convert", "model.keras", *words])
    assert again.exit_code == 0, again.output
    assert path.read_bytes() == before


@pytest.mark.slow
def test_what_time_left_untried_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_level(monkeypatch, "tokens", Level(0.7, 0.7))
    monkeypatch.setattr(promises, "_FASTER", 100.0)
    result = pick("--minutes", "0.0001")
    assert result.exit_code == 0, result.output
    assert "the minutes ended before all was tried" in result.output
    assert "for onnx-cpu with tokens 0.7; give --minutes more" in result.output


@pytest.mark.slow
def test_fewer_tokens_are_measured_named_and_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One share, and the promise that it is fastest, whatever this machine does.
    only_level(monkeypatch, "tokens", Level(0.7, 0.7))
    monkeypatch.setattr(promises, "_FASTER", 100.0)
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

    assert_made_again(folder, "model.tokens-0.7", "--tokens", "0.7", "--merge", "alike")

    refused = pick("--minutes", "10")
    assert refused.exit_code == 2
    assert "--force" in refused.output

    monkeypatch.setattr(made, "convert", None)  # nothing is made again
    resumed = pick("--minutes", "10", "--resume", "kept", "--force")
    assert resumed.exit_code == 0, resumed.output


@pytest.mark.slow
def test_fewer_pixels_are_measured_and_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    level = SAVINGS[1].levels(random_network(5, image_size=(48, 48)))[0]
    assert level == Level((40 / 48) ** 2, 40)
    only_level(monkeypatch, "pixels", level)
    monkeypatch.setattr(promises, "_FASTER", 100.0)
    result = pick("--minutes", "10")
    assert result.exit_code == 0, result.output
    assert_made_again(folder, "model.pixels-40", "--image-size", "40")


@pytest.mark.slow
def test_narrower_layers_are_measured_and_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_level(monkeypatch, "width", Level(0.9, 0.9))
    monkeypatch.setattr(promises, "_FASTER", 100.0)
    result = pick("--minutes", "10")
    assert result.exit_code == 0, result.output
    assert_made_again(folder, "model.width-0.9", "--width", "0.9")


def test_only_what_is_not_known_yet_is_made_when_a_pick_is_resumed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def convert(
        model: Path,
        options: ConvertOptions,
        *,
        on_refusal: Callable[[Path, ConversionError], None],
        **_: object,
    ) -> tuple[Written, ...]:
        """Makes float32 alone."""
        asked.append([str(each) for each in options.precisions])
        written = []
        for precision in options.precisions:
            path = artifact_path(options.output, model, precision, Format.ONNX, options.name)
            if precision is Precision.FP32:
                path.write_bytes(b"made")
                written.append(Written(path, None, None))  # type: ignore[arg-type]
            else:
                on_refusal(path, ConversionError("it cannot be had"))
        return tuple(written)

    monkeypatch.setattr(made, "convert", convert)

    def all_tokens(*precisions: Precision) -> tuple[list[str], dict[str, str]]:
        opened = OpenModel(
            Path("model.keras"), ImportOptions(), images=divide(None), progress=silent
        )
        found = made.Made(Path("model.keras"), folder, opened, None, silent)
        found.resume(folder / "kept", ImportOptions(), force=False)
        paths = found.all_tokens((Format.ONNX,), precisions)
        return [path.name for path in paths], found.refused

    refused = {"model.int8.onnx": "it cannot be had"}
    first = ["model.fp32.onnx"], refused
    assert all_tokens(Precision.FP32, Precision.INT8) == first
    assert all_tokens(Precision.FP32, Precision.INT8) == first
    assert asked == [["fp32", "int8"]]
    more = ["model.fp32.onnx"], {**refused, "model.fp16.onnx": "it cannot be had"}
    assert all_tokens(Precision.FP32, Precision.FP16, Precision.INT8) == more
    assert asked == [["fp32", "int8"], ["fp16"]]
