"""`convert --width`: artefacts without some heads and hidden channels say so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import vitedge
from tests.support.bench_rows import make_row
from tests.support.models import random_images, random_network
from vitedge.artifacts.metadata import read_metadata
from vitedge.artifacts.narrowing import Narrowing, Removed
from vitedge.bench.verdict import drift
from vitedge.cli import main
from vitedge.errors import UsageError
from vitedge.images.image_sets import ImageSet
from vitedge.images.in_memory import images_in_memory
from vitedge.importers import ImportOptions
from vitedge.inspection.compare import compare_layers
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.pipeline.narrowing import narrowed_again
from vitedge.pipeline.token_merging import TokenOptions, merged_again
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision


def network() -> Network:
    return random_network(5, depth=4, image_size=(48, 48))


def photos(count: int, seed: int = 0) -> ImageSet:
    return images_in_memory(random_images(network(), count, seed))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.keras"
    write_keras(network(), path)
    return path


@pytest.mark.thorough
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8, Precision.INT8_STATIC])
def test_artefacts_compute_what_the_narrower_model_computes(
    model: Path, tmp_path: Path, precision: Precision
) -> None:
    pixels, calibration = random_images(network(), 4), photos(16, seed=1)
    formats = tuple(
        each for each in all_formats() if not precision.all_integer or each != "openvino"
    )
    options = ConvertOptions(formats, (precision,), tmp_path, width=0.8)
    for written in convert(model, options, calibration=calibration):
        narrowing = written.metadata.narrowing
        assert narrowing is not None
        assert 0.7 < narrowing.share <= 0.8
        assert read_metadata(written.path) == written.metadata
        made = narrowed_again(network(), narrowing, calibration)
        assert written.metadata.macs < 0.85 * network().macs
        expected = evaluate(made, pixels)["logits"]
        with vitedge.load(written.path) as loaded:
            found = loaded.logits(list(pixels))
        noise = np.square(found - expected).sum() / np.square(expected).sum()
        assert noise < (1e-8 if precision is Precision.FP32 else 0.03)


def test_tokens_are_merged_in_the_narrower_model(model: Path, tmp_path: Path) -> None:
    options = ConvertOptions(
        (Format.ONNX,), (Precision.FP32,), tmp_path, width=0.8, tokens=TokenOptions(0.8)
    )
    (written,) = convert(model, options)
    metadata, pixels = written.metadata, random_images(network(), 4)
    assert metadata.narrowing is not None
    assert metadata.merging is not None
    assert metadata.macs < 0.7 * network().macs
    narrow = narrowed_again(network(), metadata.narrowing, None)
    expected = evaluate(merged_again(narrow, metadata.merging), pixels)["logits"]
    with vitedge.load(written.path) as loaded:
        assert np.abs(loaded.logits(list(pixels)) - expected).max() < 1e-3
    found = compare_layers(model, written.path, ImportOptions())
    assert min(layer.sqnr_db for layer in found.errors.layers if layer.sqnr_db is not None) > 60


@pytest.mark.parametrize("count", [16, 64])
def test_layers_are_compared_with_what_was_fitted_to_the_same_photos(
    model: Path, tmp_path: Path, count: int
) -> None:
    options = ConvertOptions((Format.ONNX,), (Precision.FP32,), tmp_path, width=0.9)
    calibration = photos(count)  # of 64, some are kept out
    (written,) = convert(model, options, calibration=calibration)
    found = compare_layers(model, written.path, ImportOptions(), calibration=calibration)
    assert min(layer.sqnr_db for layer in found.errors.layers if layer.sqnr_db is not None) > 60
    with pytest.raises(UsageError, match="give these with --calibration"):
        compare_layers(model, written.path, ImportOptions())
    with pytest.raises(UsageError, match="was not fitted to these photos"):
        compare_layers(model, written.path, ImportOptions(), calibration=photos(16, seed=2))


def test_a_bench_compares_the_layers_of_narrower_artefacts(model: Path, tmp_path: Path) -> None:
    calibration = photos(16)
    options = ConvertOptions((Format.ONNX,), (Precision.FP32,), tmp_path, width=0.9)
    (written,) = convert(model, options, calibration=calibration)
    np.savez(tmp_path / "seen.npz", images=random_images(network(), 16))
    bench = ["bench", str(written.path), "--target", "onnx-cpu", "--runs", "2"]
    seen = str(tmp_path / "seen.npz")
    reference = ["--reference", str(model), "--data", seen, "--calibration", seen]
    report = tmp_path / "report.json"
    result = CliRunner().invoke(main, [*bench, *reference, "--layers", "--json", str(report)])
    assert result.exit_code == 0, result.output
    (compared,) = json.loads(report.read_text())["layers"]
    assert min(each["sqnr_db"] or np.inf for each in compared["layers"]) > 60
    result = CliRunner().invoke(main, [*bench, *reference])
    assert "--calibration is for --layers alone" in result.output


def test_the_command_says_what_is_removed(model: Path, tmp_path: Path) -> None:
    arguments = ["convert", str(model), "--fp32", "--format", "onnx", "-o", str(tmp_path)]
    result = CliRunner().invoke(main, [*arguments, "--width", "0.8"])
    assert result.exit_code == 0, result.output
    assert "hidden channels in" in result.output
    assert "of the multiplications; by itself keeps" in result.output
    for wrong, words in (
        (["--width", "0.05"], "or more"),
        (["--width", "1"], "0 to 1, not 1"),
        (["--width", "nan"], "0 to 1, not nan"),
        (["--width", "0.8", "--tokens", "auto"], "give --tokens SHARE with --width"),
    ):
        result = CliRunner().invoke(main, [*arguments, "--force", *wrong])
        assert result.exit_code != 0
        assert words in result.output


def test_narrowing_is_no_drift() -> None:
    row = make_row(precision=Precision.FP32)
    assert row.vs_float is not None
    row = replace(row, vs_float=replace(row.vs_float, sqnr_db=14.0))
    assert "should reach 50 dB" in drift(row)
    assert drift(replace(row, narrowing="2 of 36 heads in 2 blocks")) == ""


def test_metadata_are_read_back_and_say_what_is_gone() -> None:
    places = (Removed("a", (1,), 3, heads=True), Removed("b", (0, 5), 64, heads=False))
    narrowing = Narrowing(places, 0.8, "images", 128, "ab", 0.9, 32)
    assert narrowing.words == (
        "removed: 1 of 3 heads in 1 blocks, 2 of 64 hidden channels in 1 blocks; 0.80 of the "
        "multiplications; by itself keeps 90.0% of 32 answers"
    )
    with pytest.raises(ValueError, match="names no places"):
        Narrowing.from_dict({"removed": None})
