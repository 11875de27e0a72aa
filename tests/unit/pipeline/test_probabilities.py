"""Artefacts that give the softmax of their logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vitedge
from tests.support.models import random_images, random_network
from vitedge.artifacts.metadata import Metadata, read_metadata
from vitedge.bench.workers.logits import Probabilities
from vitedge.network.evaluate import evaluate
from vitedge.network.numerics import softmax
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.pipeline.probabilities import with_probabilities
from vitedge.quantize import Recipe
from vitedge.rewrite.features import with_features
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision
from vitedge.targets.scores import Scores


def test_the_softmax_comes_first_and_other_outputs_stay() -> None:
    network = with_features(random_network())
    made, _ = with_probabilities(network, Recipe(Precision.FP32))
    images = random_images(network, 3)
    expected, found = evaluate(network, images), evaluate(made, images)
    assert list(found) == ["probabilities", "features"]
    np.testing.assert_array_equal(found["probabilities"], softmax(expected["logits"]))
    np.testing.assert_array_equal(found["features"], expected["features"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.keras"
    write_keras(random_network(5), path)
    return path


@pytest.mark.thorough
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8, Precision.INT8_STATIC])
def test_every_format_gives_probabilities(
    model: Path, tmp_path: Path, precision: Precision
) -> None:
    formats = (Format.TFLITE, Format.ONNX)
    if not precision.all_integer:
        formats = all_formats()
    options = ConvertOptions(formats, (precision,), tmp_path, probabilities=True)
    pixels = random_images(random_network(5), 4)
    expected = softmax(evaluate(random_network(5), pixels)["logits"])
    for written in convert(model, options):
        assert written.metadata.scores is Scores.PROBABILITIES
        assert read_metadata(written.path) == written.metadata
        with vitedge.load(written.path) as loaded:
            found = loaded.logits(list(pixels))
            # Steps of bytes, and errors of 8-bit layers.
            tolerance = 1e-5 if precision is Precision.FP32 else 0.1
            np.testing.assert_allclose(found, expected, atol=tolerance)
            np.testing.assert_allclose(found.sum(axis=1), 1, atol=10 / 512 + 1e-5)
            for image, row in zip(pixels, found, strict=True):
                # Taken as they are: a second softmax would flatten them.
                assert [score for _, score in loaded.classify(image, top=1)] == [row.max()]


def test_a_reference_of_logits_is_compared_by_its_softmax() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    rows = np.asarray([3, 1])
    np.testing.assert_allclose(Probabilities(logits)[rows], softmax(logits[rows]), rtol=1e-6)


def test_metadata_of_older_files_means_logits(model: Path, tmp_path: Path) -> None:
    (written,) = convert(model, ConvertOptions((Format.ONNX,), (Precision.FP32,), tmp_path))
    text = written.metadata.to_json().replace(',"scores":"logits"', "")
    assert "scores" not in text
    assert Metadata.from_json(text) == written.metadata
