"""`convert --tokens`: artefacts with fewer tokens say so, and are compared with that model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import vitedge
from tests.support.bench_rows import make_row
from tests.support.models import random_images, random_network
from vitedge.artifacts.metadata import Metadata, Parity, read_metadata
from vitedge.artifacts.token_merging import TokenMerging
from vitedge.bench.verdict import drift
from vitedge.cli import main
from vitedge.errors import ParityError
from vitedge.importers import ImportOptions
from vitedge.inspection.compare import compare_layers
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.pipeline.token_merging import TokenOptions, merged_again
from vitedge.pipeline.verified_write import Reference, check_parity
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision


def network() -> Network:
    return random_network(5, depth=4, image_size=(48, 48))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.keras"
    write_keras(network(), path)
    return path


@pytest.mark.thorough
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_artefacts_compute_what_the_merged_model_computes(
    model: Path, tmp_path: Path, precision: Precision
) -> None:
    pixels = random_images(network(), 4)
    for written in convert(
        model, ConvertOptions(all_formats(), (precision,), tmp_path, tokens=TokenOptions(0.8))
    ):
        merging = written.metadata.merging
        assert merging is not None
        assert 0.7 < merging.share <= 0.81
        assert read_metadata(written.path) == written.metadata
        expected = evaluate(merged_again(network(), merging), pixels)["logits"]
        unmerged = evaluate(network(), pixels)["logits"]
        with vitedge.load(written.path) as loaded:
            found = loaded.logits(list(pixels))
        nearer = np.abs(found - expected).mean() / np.abs(found - unmerged).mean()
        assert nearer < (1e-3 if precision is Precision.FP32 else 0.7)


def test_layers_are_compared_with_those_of_the_merged_model(model: Path, tmp_path: Path) -> None:
    (written,) = convert(
        model, ConvertOptions((Format.ONNX,), (Precision.FP32,), tmp_path, tokens=TokenOptions(0.8))
    )
    found = compare_layers(model, written.path, ImportOptions())
    assert min(layer.sqnr_db for layer in found.errors.layers if layer.sqnr_db is not None) > 60


def test_the_command_says_where_tokens_are_merged(model: Path, tmp_path: Path) -> None:
    arguments = ["convert", str(model), "--fp32", "--format", "onnx", "-o", str(tmp_path)]
    result = CliRunner().invoke(main, [*arguments, "--tokens", "0.8"])
    assert result.exit_code == 0, result.output
    assert "tokens merged: 12 after block 2, 2 after block 3; 0.81 of the mul" in result.output
    for wrong, words in (
        ("0.1", "or more"),
        ("1", "0 to 1, not 1"),
        ("0", "0 to 1, not 0"),
    ):
        result = CliRunner().invoke(main, [*arguments, "--force", "--tokens", wrong])
        assert result.exit_code != 0
        assert words in result.output


@pytest.mark.parametrize("target", [Format.TFLITE, Format.ONNX], ids=str)
def test_integers_alone_merge_the_same_tokens_in_every_picture(
    model: Path, tmp_path: Path, target: Format
) -> None:
    arguments = ["convert", str(model), "--int8-static", "--format", str(target)]
    result = CliRunner().invoke(main, [*arguments, "-o", str(tmp_path), "--tokens", "0.8"])
    assert result.exit_code == 0, result.output
    assert "tokens merged in every picture alike: 12 after block 2" in result.output
    path = tmp_path / f"model.int8-static{target.suffix}"
    metadata = read_metadata(path)
    assert metadata is not None
    assert metadata.merging is not None
    pixels = random_images(network(), 8)
    expected = evaluate(merged_again(network(), metadata.merging), pixels)["logits"]
    with vitedge.load(path) as loaded:
        noise = np.square(loaded.logits(list(pixels)) - expected).sum()
    assert 10 * np.log10(np.square(expected).sum() / noise) > 15


def test_a_format_of_integers_alone_says_that_it_cannot(model: Path, tmp_path: Path) -> None:
    arguments = ["convert", str(model), "--int8-static", "--format", "tflite", "-o", str(tmp_path)]
    result = CliRunner().invoke(main, [*arguments, "--tokens", "0.8", "--merge", "alike"])
    assert result.exit_code != 0
    assert "cannot merge tokens by what is in the picture" in result.output
    assert not list(tmp_path.iterdir())


def test_an_image_whose_choice_turned_does_not_refuse_an_artefact() -> None:
    rng = np.random.default_rng(0)
    outputs = rng.standard_normal((8, 10)).astype(np.float32)
    turned = outputs + np.float32(1e-7)
    turned[:3] += np.float32(0.2)
    pixels = np.zeros((8, 1, 1, 3), np.uint8)
    judged = Reference(pixels, outputs, chooses=True).judged(turned)
    assert set(judged) <= set(range(3, 8))
    check_parity(Parity.of(turned[judged], outputs[judged]), Precision.FP32, "it")
    everywhere = outputs + np.float32(0.2)
    judged = Reference(pixels, outputs, chooses=True).judged(everywhere)
    with pytest.raises(ParityError):
        check_parity(Parity.of(everywhere[judged], outputs[judged]), Precision.FP32, "it")
    assert len(Reference(pixels, outputs).judged(turned)) == 8


def test_merging_is_no_drift() -> None:
    row = make_row(precision=Precision.FP32)
    assert row.vs_float is not None
    row = replace(row, vs_float=replace(row.vs_float, sqnr_db=14.0))
    assert "should reach 50 dB" in drift(row)
    assert drift(replace(row, merges_tokens=True)) == ""
    assert row.vs_float is not None
    wrong = replace(row, merges_tokens=True, vs_float=replace(row.vs_float, sqnr_db=1.0))
    assert "differ by a noise 1.0 dB" in drift(wrong)


def test_metadata_that_contradicts_itself_is_refused() -> None:
    merging = TokenMerging((3, 7), (53, 45), 0.71, 0.94, 32)
    assert merging.words == (
        "tokens merged: 53 after block 4, 45 after block 8; 0.71 of the multiplications; by itself "
        "keeps 94.0% of 32 answers"
    )
    values = {"blocks": [3], "tokens": [53, 45], "share": 0.7, "n": 0}
    with pytest.raises(ValueError, match="without their tokens"):
        TokenMerging.from_dict(values)
    for groups in ([[0, 1]], "none", {"3": [0]}):
        values = {"blocks": [3, 7], "tokens": [5, 4], "share": 0.7, "n": 0, "groups": groups}
        with pytest.raises(ValueError, match="groups of other blocks"):
            TokenMerging.from_dict(values)
    assert Metadata.__dataclass_fields__["merging"].default is None
