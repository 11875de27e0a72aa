"""Folders for the clients of model hubs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

import vitedge
from tests.support.models import random_images, random_network
from vitedge.artifacts.metadata import read_metadata
from vitedge.cli import main
from vitedge.errors import UsageError
from vitedge.images.interpolation import Interpolation
from vitedge.images.preprocess import Preprocessing
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.pipeline.layouts.hugging_face import preprocessor_config
from vitedge.targets.formats import Format
from vitedge.targets.layouts import Layout
from vitedge.targets.precisions import Precision


@pytest.fixture(scope="module")
def network() -> Network:
    return random_network(5)


@pytest.fixture(scope="module")
def model(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "my|model.keras"
    write_keras(network, path)
    return path


def written(folder: Path) -> set[str]:
    return {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()}


def test_the_command_writes_a_folder_for_transformers_js(
    model: Path, network: Network, tmp_path: Path
) -> None:
    folder = tmp_path / "hub"
    arguments = ["convert", str(model), "--layout", "huggingface", "-o", str(folder)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    names = ("model", "model_fp16", "model_quantized", "model_q4")
    files = {f"onnx/{name}.onnx" for name in names}
    assert written(folder) == files | {"README.md", "config.json", "preprocessor_config.json"}
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"]["3"] == "class 3"
    assert config["label2id"]["class 3"] == 3
    sizes = ("image_size", "patch_size", "hidden_size", "num_hidden_layers", "num_labels")
    assert [config[size] for size in sizes] == [32, 8, 24, 2, 10]
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers.js\npipeline_tag: image-classification")
    assert "| `onnx/model_q4.onnx` | int4 |" in card
    assert "my/model.keras" in card  # a bar would begin a cell
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code != 0
    assert "exists; give --force" in again.output


def test_files_for_hugging_face_take_channels_first(
    model: Path, network: Network, tmp_path: Path
) -> None:
    options = ConvertOptions(
        (Format.ONNX,), (Precision.FP32,), tmp_path, features=True, layout=Layout.HUGGING_FACE
    )
    (made,) = convert(model, options)
    assert made.path == tmp_path / "onnx/model.onnx"
    onnx.checker.check_model(onnx.load(made.path), full_check=True)
    pixels = random_images(network, 2)
    expected = evaluate(network, pixels)["logits"]
    session = onnxruntime.InferenceSession(made.path)
    feeds = {"pixel_values": pixels[:1].transpose(0, 3, 1, 2).astype(np.float32)}
    logits, features = session.run(["logits", "pooler_output"], feeds)
    np.testing.assert_allclose(logits, expected[:1], atol=1e-4)
    with vitedge.load(made.path) as loaded:  # a file like every other to us
        np.testing.assert_allclose(loaded.logits(list(pixels)), expected, atol=1e-4)
        np.testing.assert_allclose(loaded.embed([pixels[0]]), features, atol=1e-5)
    assert read_metadata(made.path) == made.metadata


def test_the_litert_layout_has_labels_and_a_card(model: Path, tmp_path: Path) -> None:
    precisions = (Precision.FP32, Precision.INT8)
    options = ConvertOptions((Format.TFLITE,), precisions, tmp_path, layout=Layout.LITERT_COMMUNITY)
    convert(model, options)
    assert written(tmp_path) == {
        "model.tflite", "model_int8.tflite", "labels.txt", "README.md"
    }  # fmt: skip
    assert (tmp_path / "labels.txt").read_text().splitlines()[3] == "class 3"
    card = (tmp_path / "README.md").read_text()
    assert "library_name: litert\n" in card
    assert 'vitedge.load("model.tflite")' in card


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"formats": (Format.TFLITE,)}, "holds onnx files, not tflite"),
        ({"precisions": (Precision.W8A16,)}, "has no w8a16; it takes fp32, fp16, int8, int4"),
        ({"probabilities": True}, "leave out --probabilities"),
        ({"batch": 2}, "leave out --batch"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else None,
)
def test_what_its_clients_cannot_use_is_refused(
    model: Path, tmp_path: Path, wrong: dict[str, object], words: str
) -> None:
    right = ConvertOptions((Format.ONNX,), (Precision.FP32,), tmp_path, layout=Layout.HUGGING_FACE)
    with pytest.raises(UsageError, match=words):
        convert(model, replace(right, **wrong))  # type: ignore[arg-type]
    assert not written(tmp_path)


def test_preprocessing_is_told_in_the_words_of_transformers() -> None:
    cropped = Preprocessing((224, 224), resize=256, interpolation=Interpolation.BILINEAR)
    found = preprocessor_config(cropped)
    assert found["size"] == {"shortest_edge": 256}
    assert found["crop_size"] == {"height": 224, "width": 224}
    assert (found["resample"], found["do_rescale"], found["do_normalize"]) == (2, False, False)
    grey = Preprocessing((28, 32), channels=1, mean=(0.5,), std=(0.5,))
    found = preprocessor_config(grey)
    assert found["size"] == {"height": 28, "width": 32}
    assert (found["do_convert_grayscale"], found["do_convert_rgb"]) == (True, False)
