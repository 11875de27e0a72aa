"""What ``vitedge.load`` gives for each meaning of an artefact's output."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import vitedge
from tests.support.models import random_images
from tests.support.task_artifacts import LABELS, artifact_of, network_of_task
from vitedge.artifacts.metadata import Metadata, read_metadata
from vitedge.cli import main
from vitedge.errors import ModelError, UsageError, VitedgeError
from vitedge.images.preprocess import Preprocessing
from vitedge.loaded.mapper import in_image
from vitedge.loaded.model import LoadedModel
from vitedge.network.evaluate import evaluate, forward
from vitedge.network.network import Network
from vitedge.network.tasks import Task
from vitedge.pipeline.probabilities import with_probabilities
from vitedge.quantize import Recipe
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision

KINDS = {
    Task.CLASSES: vitedge.Classifier,
    Task.BINARY: vitedge.Classifier,
    Task.LABELS: vitedge.Classifier,
    Task.NUMBERS: vitedge.Regressor,
    Task.EMBEDDING: vitedge.Embedder,
    Task.MAP: vitedge.Mapper,
}
METHODS = {
    vitedge.Classifier: {"classify", "classify_batch", "logits", "stream", "embed"},
    vitedge.Regressor: {"predict"},
    vitedge.Embedder: {"embed", "similarity"},
    vitedge.Mapper: {"predict", "raw"},
}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.fixture
def network(request: pytest.FixtureRequest) -> Network:
    return network_of_task(request.param)


every_task = pytest.mark.parametrize("network", Task, ids=str, indirect=True)


@every_task
def test_the_task_decides_which_methods_there_are(network: Network, tmp_path: Path) -> None:
    with vitedge.load(artifact_of(network, tmp_path)) as model:
        assert type(model) is KINDS[network.task]
        assert (model.task, model.info.task) == (network.task, network.task)
        assert model.info.output_shape == network.main.shape
        for name in set().union(*METHODS.values()) - METHODS[type(model)]:
            with pytest.raises(UsageError, match=f"there is no {name}: use"):
                getattr(model, name)
            assert not hasattr(model, name)
        with pytest.raises(AttributeError, match="no attribute 'colour'"):
            _ = model.colour


@pytest.mark.parametrize("target", all_formats(), ids=str)
@every_task
def test_every_format_holds_the_task(network: Network, target: Format, tmp_path: Path) -> None:
    path = artifact_of(network, tmp_path, target)
    metadata = read_metadata(path)
    assert metadata is not None
    assert metadata.task is network.task
    assert Metadata.from_json(metadata.to_json()) == metadata
    # vitedge 0.1 reads schema 1 alone, and would take a softmax of whatever it is.
    schema = json.loads(metadata.to_json())["schema"]
    assert schema == (1 if network.task is Task.CLASSES else 2)


@pytest.mark.parametrize("network", [Task.BINARY, Task.LABELS], ids=str, indirect=True)
def test_labels_are_right_or_not_by_themselves(network: Network, tmp_path: Path) -> None:
    images = random_images(network, 3)
    with vitedge.load(artifact_of(network, tmp_path)) as model:
        rankings = model.classify_batch(list(images))
    names = LABELS[network.task][-1:] if network.task is Task.BINARY else LABELS[network.task]
    for ranking, logits in zip(rankings, forward(network, images), strict=True):
        expected = dict(zip(names, sigmoid(logits), strict=True))
        assert dict(ranking) == pytest.approx(expected, abs=1e-5)
        assert [p for _, p in ranking] == sorted((p for _, p in ranking), reverse=True)


@pytest.mark.parametrize("network", [Task.NUMBERS], ids=str, indirect=True)
def test_numbers_are_as_the_model_gives_them(network: Network, tmp_path: Path) -> None:
    images = random_images(network, 3)
    with vitedge.load(artifact_of(network, tmp_path)) as model:
        np.testing.assert_allclose(model.predict(list(images)), forward(network, images), atol=1e-5)


@pytest.mark.parametrize("network", [Task.EMBEDDING], ids=str, indirect=True)
def test_similarity_is_the_cosine_of_embeddings(network: Network, tmp_path: Path) -> None:
    images = random_images(network, 4)
    vectors = forward(network, images)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    with vitedge.load(artifact_of(network, tmp_path)) as model:
        np.testing.assert_allclose(model.embed(list(images)), vectors, atol=1e-5)
        found = model.similarity(list(images[:1]), list(images))
    np.testing.assert_allclose(found, units[:1] @ units.T, atol=1e-5)
    assert found[0, 0] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_map_comes_back_in_the_coordinates_of_the_image(channels: int, tmp_path: Path) -> None:
    network = network_of_task(Task.MAP, channels=channels)
    height, width, _ = network.image_shape
    (pixels,) = random_images(network, 1)
    large = np.repeat(np.repeat(pixels, 3, axis=0), 2, axis=1)
    with vitedge.load(artifact_of(network, tmp_path)) as model:
        (raw,) = model.raw([large])
        found = model.predict(large)
    assert raw.shape == network.main.shape
    assert found.shape == (3 * height, 2 * width, *raw.shape[2:])
    assert np.isfinite(found).all()
    # Pillow interpolates, so the middles of patches keep nearly their values.
    rows = (np.arange(raw.shape[0]) * 2 + 1) * 3 * height // (2 * raw.shape[0])
    columns = (np.arange(raw.shape[1]) * 2 + 1) * 2 * width // (2 * raw.shape[1])
    np.testing.assert_allclose(found[np.ix_(rows, columns)], raw, atol=0.1 * np.ptp(raw))


def test_what_is_cropped_off_an_image_has_no_value_in_its_map() -> None:
    preprocessing = Preprocessing((20, 20), resize=40)
    found = in_image(np.ones((4, 4), np.float32), preprocessing, (80, 120))
    seen = np.argwhere(np.isfinite(found))
    # The shorter side of 80 becomes 40, so the 20 pixels in the middle are 40 of the image.
    assert (seen.min(axis=0).tolist(), seen.max(axis=0).tolist()) == ([20, 40], [59, 79])
    assert (found[20:60, 40:80] == 1).all()


def predicted(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["predict", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    shape = network_of_task(Task.CLASSES).image_shape
    paths = [tmp_path / f"{index}.png" for index in range(2)]
    for index, path in enumerate(paths):
        pixels = np.random.default_rng(index).integers(0, 256, shape, np.uint8)
        Image.fromarray(pixels.squeeze()).save(path)
    return paths


@every_task
def test_predict_prints_what_the_output_means(
    network: Network, photos: list[Path], tmp_path: Path
) -> None:
    path = artifact_of(network, tmp_path)
    pixels = network.preprocessing.batch(photos[:1])
    (expected,) = forward(network, pixels)
    output = tmp_path / "out.npy"
    needs_output = network.task in (Task.EMBEDDING, Task.MAP)
    if needs_output:
        code, words = predicted(path, photos[0])
        assert code == 2
        assert "--output FILE.npy" in words
    options = ["--output", output] if needs_output else []
    code, words = predicted(path, photos[0], *options)
    assert code == 0, words
    match network.task:
        case Task.BINARY:
            assert f"{sigmoid(expected[0]):.2%}  cat" in words
            assert "no cat" not in words
        case Task.LABELS:
            for label, share in zip(network.labels, sigmoid(expected), strict=True):
                assert (f"{share:.2%}  {label}" in words) == (share >= 0.5)
        case Task.NUMBERS:
            for name, value in zip(network.labels, expected, strict=True):
                assert f"{value:.4g}"[:4] in words
                assert name in words
        case Task.EMBEDDING:
            np.testing.assert_allclose(np.load(output), expected[None], atol=1e-5)
        case Task.MAP:
            assert np.load(output).shape == network.image_shape[:2]
        case Task.CLASSES:
            assert network.labels[int(expected.argmax())] in words.splitlines()[1]


def test_an_output_is_not_overwritten_unasked(photos: list[Path], tmp_path: Path) -> None:
    path = artifact_of(network_of_task(Task.EMBEDDING), tmp_path)
    output = tmp_path / "rows.npy"
    output.write_bytes(b"mine")
    code, words = predicted(path, *photos, "--output", output)
    assert (code, output.read_bytes()) == (2, b"mine")
    assert "--force" in words
    assert predicted(path, *photos, "--output", output, "--force")[0] == 0
    assert len(np.load(output)) == 2


def test_a_map_is_written_as_a_picture(photos: list[Path], tmp_path: Path) -> None:
    network = network_of_task(Task.MAP)
    output = tmp_path / "map.png"
    assert predicted(artifact_of(network, tmp_path), photos[0], "--output", output)[0] == 0
    with Image.open(output) as picture:
        assert (picture.mode, picture.size) == ("L", network.image_shape[1::-1])
        assert picture.getextrema() == (0, 255)


def test_a_foreign_file_is_given_its_task(tmp_path: Path) -> None:
    import onnx

    network = network_of_task(Task.EMBEDDING)
    path = artifact_of(network, tmp_path)
    ours = path.read_bytes()
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    with vitedge.load(path, preprocessing=network.preprocessing, task="embedding") as loaded:
        assert isinstance(loaded, vitedge.Embedder)
    with pytest.raises(UsageError, match="task must be classes, binary"):
        vitedge.load(path, preprocessing=network.preprocessing, task="faces")
    with pytest.raises(ModelError, match="a map has rows"):
        vitedge.load(path, preprocessing=network.preprocessing, task="map")
    path.write_bytes(ours)
    with pytest.raises(UsageError, match="gives an embedding; leave out task='map'"):
        vitedge.load(path, task="map")


@pytest.mark.parametrize("network", [Task.BINARY, Task.LABELS], ids=str, indirect=True)
def test_probabilities_of_labels_are_sigmoids(network: Network) -> None:
    images = random_images(network, 3)
    made, _ = with_probabilities(network, Recipe(Precision.FP32))
    found = evaluate(made, images)
    assert list(found) == ["probabilities"]
    np.testing.assert_allclose(found["probabilities"], sigmoid(forward(network, images)), atol=1e-6)


def test_closed_models_say_so(tmp_path: Path) -> None:
    model = vitedge.load(artifact_of(network_of_task(Task.EMBEDDING), tmp_path))
    assert isinstance(model, LoadedModel)
    model.close()
    with pytest.raises(VitedgeError, match="closed"):
        model.embed([np.zeros((32, 32, 3), np.uint8)])


def test_a_task_is_saved_with_a_network_and_older_files_are_classifiers() -> None:
    from vitedge.network.saved import described, restored

    for task in Task:
        network = network_of_task(task)
        description, arrays = described(network)
        assert restored(description, arrays).task is task
    description, arrays = described(network_of_task(Task.CLASSES))
    del description["task"]
    assert restored(description, arrays).task is Task.CLASSES
    with pytest.raises(ModelError, match="faces"):
        restored({**description, "task": "faces"}, arrays)


def test_labels_of_a_task_are_counted() -> None:
    with pytest.raises(ValueError, match="3 labels for 1 or 2 binary"):
        replace(network_of_task(Task.BINARY), labels=("a", "b", "c"))
    with pytest.raises(ValueError, match="1 labels for 0 embedding"):
        replace(network_of_task(Task.EMBEDDING), labels=("a",))
