"""Texts as the classes of a model that embeds images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import vitedge
from tests.support.models import random_images
from tests.support.task_artifacts import network_of_task
from vitedge.cli import main
from vitedge.importers import read_model
from vitedge.network.evaluate import forward
from vitedge.network.tasks import Task
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.pipeline.zero_shot import TextLabels, with_text_labels
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

NAMES = ("a cat", "a dog", "an owl")
NETWORK = network_of_task(Task.EMBEDDING)
TEXTS = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32) * 7


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_keras(NETWORK, tmp_path / "embedder.keras")
    return tmp_path / "embedder.keras"


def saved(folder: Path, **arrays: object) -> Path:
    np.savez(folder / "texts.npz", **arrays)
    return folder / "texts.npz"


def labels(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["labels", *map(str, arguments)])
    return result.exit_code, result.output


def cosines(images: np.ndarray) -> np.ndarray:
    pictures = forward(NETWORK, images)
    pictures = pictures / np.linalg.norm(pictures, axis=1, keepdims=True)
    texts = TEXTS / np.linalg.norm(TEXTS, axis=1, keepdims=True)
    return pictures @ texts.T


@pytest.mark.parametrize("as_labels", [False, True], ids=["classes", "labels"])
def test_images_are_named_by_the_nearest_text(as_labels: bool, model: Path, tmp_path: Path) -> None:
    texts = saved(tmp_path, embeddings=TEXTS, scale=20.0, bias=-2.0)
    output = tmp_path / "named.keras"
    options = ["--as-labels"] if as_labels else []
    code, words = labels(
        model, "--text-embeddings", texts, "--names", ",".join(NAMES), "-o", output, *options
    )
    assert code == 0, words
    read = read_model(output).network
    assert (read.labels, read.task) == (NAMES, Task.LABELS if as_labels else Task.CLASSES)
    images = random_images(NETWORK, 4)
    expected = 20 * cosines(images) - 2
    np.testing.assert_allclose(forward(read, images), expected, atol=1e-4)
    (written,) = convert(output, ConvertOptions((Format.ONNX,), (Precision.INT8,), tmp_path))
    with vitedge.load(written.path) as loaded:
        for ranking, scores in zip(loaded.classify_batch(images), expected, strict=True):
            assert {name for name, _ in ranking} == set(NAMES)
            shares = np.exp(scores) / np.exp(scores).sum()
            shares = 1 / (1 + np.exp(-scores)) if as_labels else shares
            found = dict(ranking)
            for name, share in zip(NAMES, shares, strict=True):
                assert found[name] == pytest.approx(share, abs=0.15)  # int8 layers


def test_names_may_lie_in_a_file(model: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("a cat\na dog, asleep\nan owl\n", encoding="utf-8")
    texts, output = saved(tmp_path, embeddings=TEXTS), tmp_path / "named.keras"
    given = ("--text-embeddings", texts, "--names", names, "-o", output, "--scale", 100)
    assert labels(model, *given)[0] == 0
    assert read_model(output).network.labels == ("a cat", "a dog, asleep", "an owl")
    before = output.read_bytes()
    code, words = labels(model, *given)
    assert (code, output.read_bytes()) == (2, before)
    assert "--force" in words


@pytest.mark.parametrize(
    ("arrays", "names", "message"),
    [
        ({"embeddings": TEXTS}, "a,b,c", "give --scale 100"),
        ({"embeddings": TEXTS, "scale": 0.0}, "a,b,c", "give --scale 100"),
        ({"embeddings": TEXTS, "scale": -5.0}, "a,b,c", "a scale of -5: give --scale 100"),
        ({"embeddings": TEXTS, "scale": 1.0, "bias": np.nan}, "a,b,c", "a bias of nan cannot"),
        ({"embeddings": TEXTS, "scale": 1.0}, "a,b", "2 names for 3 texts"),
        ({"embeddings": TEXTS, "scale": 1.0}, "a,,c", "a class has no name"),
        ({"embeddings": TEXTS, "scale": 1.0}, "a,b,a", "the class 'a' is there twice"),
        ({"embeddings": TEXTS[:1], "scale": 1.0}, "a", "right for every image.*--as-labels"),
        ({"text": TEXTS, "scale": 1.0}, "a,b,c", "holds no 'embeddings' of floats"),
        ({"embeddings": TEXTS[:, :4], "scale": 1.0}, "a,b,c", "4 wide, those of images 5"),
        ({"embeddings": TEXTS * 0, "scale": 1.0}, "a,b,c", "is zero or not finite"),
        ({"embeddings": TEXTS, "scale": TEXTS}, "a,b,c", "'scale' of '.*' is not a number"),
    ],
)
def test_texts_that_do_not_fit_are_refused(
    arrays: dict[str, object], names: str, message: str, model: Path, tmp_path: Path
) -> None:
    import re

    texts, output = saved(tmp_path, **arrays), tmp_path / "named.keras"
    code, words = labels(model, "--text-embeddings", texts, "--names", names, "-o", output)
    assert code in (1, 2)
    assert re.search(message, words), words
    assert not output.exists()


@pytest.mark.parametrize("length", [1e-30, 1e30, 1e60])
def test_only_the_direction_of_a_text_counts(length: float, model: Path, tmp_path: Path) -> None:
    output, images = tmp_path / "named.keras", random_images(NETWORK, 4)
    texts = saved(tmp_path, embeddings=TEXTS.astype(np.float64) * length, scale=20.0)
    code, words = labels(
        model, "--text-embeddings", texts, "--names", ",".join(NAMES), "-o", output
    )
    assert code == 0, words
    found = forward(read_model(output).network, images)
    np.testing.assert_allclose(found, 20 * cosines(images), atol=1e-4)


def test_one_text_may_be_right_or_wrong_by_itself(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "named.keras"
    texts = saved(tmp_path, embeddings=TEXTS[:1], scale=20.0)
    given = ("--text-embeddings", texts, "--names", "a cat", "--as-labels", "-o", output)
    code, words = labels(model, *given)
    assert code == 0, words
    (written,) = convert(output, ConvertOptions((Format.ONNX,), (Precision.FP32,), tmp_path))
    assert written.metadata.task in (Task.LABELS, Task.BINARY)


def test_a_classifier_has_no_embedding_to_compare() -> None:
    texts = TextLabels(NAMES, TEXTS, 20)
    with pytest.raises(vitedge.VitedgeError, match="read it with --task embedding"):
        with_text_labels(network_of_task(Task.CLASSES), texts)
