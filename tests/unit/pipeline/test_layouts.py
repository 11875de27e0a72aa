"""Folders for the clients of model hubs."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from click.testing import CliRunner

import vitedge
from tests.support.models import random_images, random_network
from tests.support.task_artifacts import network_of_task
from vitedge.artifacts.metadata import Metadata, Source, read_metadata
from vitedge.cli import main
from vitedge.errors import UsageError
from vitedge.images.interpolation import Interpolation
from vitedge.images.preprocess import Preprocessing
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network
from vitedge.network.tasks import Task
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.pipeline.layouts import LAYOUTS
from vitedge.pipeline.layouts.hugging_face_configs import preprocessor_config
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


def front_matter(folder: Path) -> Any:
    """The head of a folder's model card, as a reader of YAML has it."""
    _, head, _ = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(head)


def card_rows(folder: Path) -> dict[str, list[str]]:
    """The cells of the card's table of files, by file."""
    lines = (folder / "README.md").read_text().splitlines()
    cells = [[each.strip() for each in line[1:-1].split("|")] for line in lines if line[:1] == "|"]
    assert len({len(each) for each in cells}) == 1
    return {file.strip("`"): rest for file, *rest in cells[2:]}


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
    assert front_matter(folder) == {
        "library_name": "transformers.js",
        "pipeline_tag": "image-classification",
        "tags": ["vision", "image-classification", "onnx", "vitedge"],
    }
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
    for count in (1, 2):  # as many as there are
        feeds = {"pixel_values": pixels[:count].transpose(0, 3, 1, 2).astype(np.float32)}
        logits, features = session.run(["logits", "pooler_output"], feeds)
        np.testing.assert_allclose(logits, expected[:count], atol=1e-4)
    with vitedge.load(made.path) as loaded:  # a file like every other to us
        np.testing.assert_allclose(loaded.logits(list(pixels)), expected, atol=1e-4)
        np.testing.assert_allclose(loaded.embed(list(pixels)), features, atol=1e-5)
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
    assert front_matter(tmp_path) == {
        "library_name": "litert",
        "pipeline_tag": "image-classification",
        "tags": ["vision", "image-classification", "tflite", "vitedge"],
    }
    assert 'vitedge.load("model.tflite")' in card


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"formats": (Format.TFLITE,)}, "holds onnx files, not tflite"),
        ({"precisions": (Precision.W8A16,)}, "has no w8a16; it takes fp32, fp16, int8, int4"),
        ({"probabilities": True}, "leave out --probabilities"),
        ({"batch": 2}, "take as many images at a time as they are given; leave out --batch"),
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


def classifier_of(preprocessing: Preprocessing) -> Metadata:
    source = Source("model.keras", "0" * 64, "a test")
    return Metadata(Format.ONNX, Precision.FP32, (), preprocessing, source)


def test_preprocessing_is_told_in_the_words_of_transformers() -> None:
    cropped = Preprocessing((224, 224), resize=256, interpolation=Interpolation.BILINEAR)
    found = preprocessor_config(classifier_of(cropped))
    assert found["size"] == {"shortest_edge": 256}
    assert found["crop_size"] == {"height": 224, "width": 224}
    assert (found["resample"], found["do_rescale"], found["do_normalize"]) == (2, False, False)
    found = preprocessor_config(classifier_of(replace(cropped, resize=(240, 256))))
    assert found["image_processor_type"] == "DeiTImageProcessor"
    assert found["size"] == {"height": 240, "width": 256}
    assert found["crop_size"] == {"height": 224, "width": 224}
    grey = Preprocessing((28, 32), channels=1, mean=(0.5,), std=(0.5,))
    found = preprocessor_config(classifier_of(grey))
    assert found["size"] == {"height": 28, "width": 32}
    assert (found["do_convert_grayscale"], found["do_convert_rgb"]) == (True, False)


@dataclass(frozen=True)
class Laid:
    """What a folder for Hugging Face's clients says of a model that is not a classifier."""

    network: Network
    model_type: str
    tag: str | None
    outputs: dict[str, list[int | str]]
    also: tuple[str, ...] = ()


EMBEDDER, DEPTH = network_of_task(Task.EMBEDDING), network_of_task(Task.MAP)
SEGMENTER = replace(network_of_task(Task.MAP, channels=3), labels=("sky", "sea", "shore"))
OTHERS = {
    "embedder": Laid(
        EMBEDDER, "vit", "image-feature-extraction", {"image_embeds": ["batch_size", 5]}
    ),
    "embedder with tokens": Laid(
        EMBEDDER,
        "vit",
        "image-feature-extraction",
        {"pooler_output": ["batch_size", 5], "last_hidden_state": ["batch_size", 17, 24]},
        also=("tokens",),
    ),
    "map of numbers": Laid(
        DEPTH, "depth_anything", None, {"predicted_depth": ["batch_size", 4, 4]}
    ),
    "map of classes": Laid(
        SEGMENTER, "segformer", "image-segmentation", {"logits": ["batch_size", 3, 4, 4]}
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_than_classifiers_are_laid_out(name: str, tmp_path: Path) -> None:
    case = OTHERS[name]
    write_keras(case.network, tmp_path / "model.keras")
    options = ConvertOptions(
        (Format.ONNX,),
        (Precision.FP32, Precision.INT8),
        tmp_path / "hub",
        layout=Layout.HUGGING_FACE,
        also=case.also,
    )
    made, _ = convert(tmp_path / "model.keras", options)
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert config["model_type"] == case.model_type
    assert ("id2label" in config) == (case.network is SEGMENTER)
    assert front_matter(tmp_path / "hub").get("pipeline_tag") == case.tag
    session = onnxruntime.InferenceSession(made.path)
    assert {each.name: each.shape for each in session.get_outputs()} == case.outputs
    pixels = random_images(case.network, 3)
    expected = evaluate(case.network, pixels)[case.network.main_name]
    feeds = {"pixel_values": pixels.transpose(0, 3, 1, 2).astype(np.float32)}
    (main,) = session.run([next(iter(case.outputs))], feeds)
    turned = main.transpose(0, 2, 3, 1) if main.ndim == 4 else main
    np.testing.assert_allclose(turned, expected, atol=1e-4)
    with vitedge.load(made.path) as loaded:
        own = loaded.embed if case.network is EMBEDDER else loaded.raw
        np.testing.assert_allclose(own(list(pixels)), expected, atol=1e-4)


def test_maps_and_scores_that_clients_would_misread_are_refused(tmp_path: Path) -> None:
    layout = LAYOUTS[Layout.HUGGING_FACE]
    whole = Preprocessing((32, 32))
    cropped = Preprocessing((32, 32), resize=40)
    with pytest.raises(UsageError, match="give --labels"):
        layout.demand_model(Task.MAP, (4, 4, 3), (), whole)
    with pytest.raises(UsageError, match="give --resize 0"):
        layout.demand_model(Task.MAP, (4, 4), (), cropped)
    for task in (Task.BINARY, Task.LABELS, Task.NUMBERS):
        with pytest.raises(UsageError, match="take a softmax"):
            layout.demand_model(task, (5,), (), whole)


LAID_OUT = [(Layout.LITERT_COMMUNITY, task) for task in Task] + [
    (Layout.HUGGING_FACE, task) for task in (Task.CLASSES, Task.EMBEDDING, Task.MAP)
]


@pytest.mark.parametrize(("layout", "task"), LAID_OUT, ids=str)
def test_every_card_has_a_valid_head_and_what_was_measured(
    layout: Layout, task: Task, tmp_path: Path
) -> None:
    network = network_of_task(task)
    write_keras(network, tmp_path / "model.keras")
    options = ConvertOptions(
        (LAYOUTS[layout].format,),
        (Precision.FP32, Precision.INT8),
        tmp_path / "hub",
        layout=layout,
    )
    made = convert(tmp_path / "model.keras", options)
    head = front_matter(tmp_path / "hub")
    assert head["library_name"] in ("transformers.js", "litert")
    rows = card_rows(tmp_path / "hub")
    for each in made:
        parity = each.metadata.parity
        assert parity is not None
        precision, _, decibel, _, same = rows[each.path.relative_to(tmp_path / "hub").as_posix()]
        assert precision == each.metadata.precision
        assert decibel == ("equal" if parity.sqnr_db is None else f"{parity.sqnr_db:.1f}")
        assert same == ("" if parity.agreement is None else f"{parity.agreement:.0%}")
    card = (tmp_path / "hub" / "README.md").read_text()
    assert f"outputs of {made[0].metadata.parity.n} images were compared" in card
    (program,) = re.findall(r"```python\nimport vitedge\n(.*?)```", card, re.DOTALL)
    assert made[0].path.name in program
    assert (tmp_path / "hub" / "labels.txt").exists() == (
        layout is Layout.LITERT_COMMUNITY and bool(network.labels)
    )


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8_STATIC])
def test_the_litert_layout_takes_probabilities_and_batches(
    model: Path, precision: Precision, tmp_path: Path
) -> None:
    options = ConvertOptions(
        (Format.TFLITE,),
        (precision,),
        tmp_path,
        layout=Layout.LITERT_COMMUNITY,
        probabilities=True,
        batch=2,
    )
    (made,) = convert(model, options)
    with vitedge.load(made.path) as loaded:
        found = loaded.logits([np.full((32, 32, 3), 99, np.uint8)])
    np.testing.assert_allclose(found.sum(), 1, atol=0.03)  # bytes round each of ten shares
