"""Clients that nobody here wrote name the same classes as ``vitedge.load`` does.

They lie beside this environment, where ``make clients`` puts them (``make slow`` all but Optimum).
Where a client cannot prepare photos as we do, it gets ours as pictures of the right size.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from ctypes.util import find_library
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vitedge
from tests.e2e.test_client_pages import PAGES, blocks
from tests.support.client_artifacts import MODELS, SHARED, ForClients, made_once
from tests.support.target_artifacts import small_artifact
from tests.support.task_artifacts import network_of_task
from vitedge.network.network import Network
from vitedge.network.tasks import Task
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.targets.formats import Format
from vitedge.targets.layouts import Layout
from vitedge.targets.precisions import Precision

PROGRAMS = Path(__file__).parents[1] / "support" / "client_programs"
CLIENTS = Path(os.environ.get("VITEDGE_CLIENTS", Path(__file__).parents[2] / ".clients"))
PYTHON, OPTIMUM, NPM = CLIENTS / "python", CLIENTS / "optimum", CLIENTS / "npm"

AT_LEAST = 19  # of 20: one photo may lie on the edge of two classes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason=f"no clients in {CLIENTS}: run make clients"),
]

WITH_OPTIMUM = pytest.mark.skipif(
    not OPTIMUM.exists(), reason=f"no Optimum in {OPTIMUM}: run make clients"
)
IN_NODE = pytest.mark.skipif(
    not NPM.exists() or shutil.which("node") is None,
    reason=f"no Node.js, or no transformers.js in {NPM}: run make clients",
)


@pytest.fixture(scope="module", params=MODELS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ForClients:
    if request.param == "deit_tiny" and not os.environ.get("VITEDGE_TEST_PHOTOS"):
        pytest.skip("a real model takes minutes: make clients")
    if request.param == "deit_tiny" and not SHARED.exists():
        pytest.skip(f"no DeiT-tiny and photos in {SHARED}")
    return made_once(request.param, tmp_path_factory)


def run(folder: Path, *command: object) -> str:
    """What a program beside the clients prints."""
    paths = os.pathsep.join(map(str, (PYTHON, OPTIMUM)))
    # transformers would import TensorFlow, which is in this environment and takes long.
    chosen = {"PYTHONPATH": paths, "PACKAGE": str(NPM), "USE_TF": "0"}
    ended = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | chosen,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout


def ask(program: str, *arguments: object) -> Any:
    """What a program for one client prints, from JSON."""
    interpreter = "node" if program.endswith(".mjs") else sys.executable
    said = run(Path(), interpreter, PROGRAMS / program, *arguments)
    return json.loads(said.splitlines()[-1])


def agreement(found: list[Any], made: ForClients, name: str) -> int:
    """On how many pictures a client names the class that we name, index and words alike."""
    names = [label.replace(" ", "_") for label in made.labels]
    for index, said, _ in found:
        assert said.replace(" ", "_") == names[index]
    return sum(index == ours for (index, *_), ours in zip(found, made.classes(name), strict=True))


@pytest.mark.parametrize("name", ["model.fp32.tflite", "model.int8.tflite"])
def test_mediapipe_classifies(made: ForClients, name: str) -> None:
    found = ask("mediapipe_classifier.py", made.folder / name, *made.pictures)
    assert agreement(found, made, name) >= AT_LEAST


def test_mediapipe_embeds_features_and_shows_probabilities(made: ForClients) -> None:
    path = made.folder / "probabilities" / "model.fp32.tflite"
    found = ask("mediapipe_embedder.py", path, *made.pictures)
    with vitedge.load(path) as model:
        # Pictures of the right size are not resized.
        whole = replace(model.preprocessing, resize=None)
    with vitedge.load(path, preprocessing=whole) as model:
        expected = model.embed(made.pictures)
        scores = model.logits(made.pictures)
    np.testing.assert_allclose([each["features"] for each in found], expected, atol=1e-3)
    np.testing.assert_allclose([each["score"] for each in found], scores, atol=1e-4)


@pytest.mark.skipif(
    not (PYTHON / "tensorflow_lite_support").exists(),
    reason="tflite-support has no wheels for this Python",
)
@pytest.mark.skipif(
    find_library("usb-1.0") is None,
    reason="tflite-support links libusb-1.0, which no package of Python brings (libusb-1.0-0)",
)
def test_tflite_support_reads_the_metadata(made: ForClients) -> None:
    found = ask("tflite_support_reader.py", made.folder / "model.int8.tflite")
    assert found["files"]["labels.txt"].splitlines() == list(made.labels)
    (graph,) = found["metadata"]["subgraph_metadata"]
    (image,), (score,) = graph["input_tensor_metadata"], graph["output_tensor_metadata"]
    assert image["process_units"] == [
        {"options_type": "NormalizationOptions", "options": {"mean": [0.0], "std": [1.0]}}
    ]
    assert score["associated_files"][0]["type"] == "TENSOR_AXIS_LABELS"


@pytest.mark.parametrize(
    "name",
    [
        "model.fp32.xml",
        "model.int8.xml",
        "model.fp32.onnx",
        "probabilities/model.fp32.xml",
        "onnxruntime:hub/onnx/model.onnx",
    ],
)
def test_the_model_api_classifies(made: ForClients, name: str) -> None:
    engine, _, file = name.rpartition(":")
    place = f"{engine}:{made.folder / file}" if engine else made.folder / file
    found = ask("model_api_classifier.py", place, *made.pictures)
    assert agreement(found, made, file) >= AT_LEAST


@WITH_OPTIMUM
@pytest.mark.parametrize("file", ["model.onnx", "model_quantized.onnx"])
def test_optimum_classifies_photos(made: ForClients, file: str) -> None:
    found = ask("optimum_classifier.py", f"{made.folder / 'hub'}:{file}", *made.photos)
    assert agreement(found, made, f"hub/onnx/{file}") >= AT_LEAST


@IN_NODE
@pytest.mark.parametrize(
    ("dtype", "file"), [("fp32", "model.onnx"), ("q8", "model_quantized.onnx")]
)
def test_transformers_js_classifies_photos(made: ForClients, dtype: str, file: str) -> None:
    found = ask("transformers_js.mjs", made.folder / "hub", dtype, *made.photos)
    assert agreement(found, made, f"hub/onnx/{file}") >= AT_LEAST


def laid_out(network: Network, folder: Path, also: tuple[str, ...] = ()) -> Path:
    """The file of a folder for Hugging Face's clients."""
    write_keras(network, folder / "source.keras")
    options = ConvertOptions(
        (Format.ONNX,),
        (Precision.FP32,),
        folder / "hub",
        layout=Layout.HUGGING_FACE,
        also=also,
    )
    (made,) = convert(folder / "source.keras", options)
    return made.path


def two_photos(folder: Path) -> list[Path]:
    """Pictures of smooth noise in the models' own size, so that no filter makes a difference."""
    photos = [folder / f"{number}.png" for number in range(2)]
    for number, photo in enumerate(photos):
        coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(photo)
    return photos


@IN_NODE
@pytest.mark.parametrize("also", [(), ("tokens",)], ids=["vectors", "tokens"])
def test_transformers_js_embeds(also: tuple[str, ...], tmp_path: Path) -> None:
    path, photos = laid_out(network_of_task(Task.EMBEDDING), tmp_path, also), two_photos(tmp_path)
    found = ask(
        "transformers_js_outputs.mjs", tmp_path / "hub", "image-feature-extraction", *photos
    )
    with vitedge.load(path) as model:
        expected = model.output("last_hidden_state", photos) if also else model.embed(photos)
    assert tuple(found["dims"]) == expected.shape
    np.testing.assert_allclose(found["values"], expected.ravel(), atol=1e-4)


@IN_NODE
def test_transformers_js_lays_maps_over_pictures(tmp_path: Path) -> None:
    path, photos = laid_out(network_of_task(Task.MAP), tmp_path), two_photos(tmp_path)
    found = ask("transformers_js_outputs.mjs", tmp_path / "hub", "depth-estimation", *photos)
    with vitedge.load(path) as model:
        expected = [model.predict(photo) for photo in photos]
    for one, other in zip(found, expected, strict=True):
        assert tuple(one["dims"]) == other.shape
        np.testing.assert_allclose(one["values"], other.ravel(), atol=1e-3 * np.ptp(other))


@IN_NODE
def test_transformers_js_names_what_it_segments(tmp_path: Path) -> None:
    labels = ("sky", "sea", "shore")
    network = replace(network_of_task(Task.MAP, channels=3), labels=labels)
    path, photos = laid_out(network, tmp_path), two_photos(tmp_path)
    found = ask("transformers_js_outputs.mjs", tmp_path / "hub", "image-segmentation", *photos)
    with vitedge.load(path) as model:
        classes = [model.predict(photo).argmax(axis=-1) for photo in photos]
    for masks, each in zip(found, classes, strict=True):
        expected = {labels[index]: int((each == index).sum()) for index in np.unique(each)}
        assert {label: round(area) for label, area in masks} == pytest.approx(expected, abs=8)


@pytest.mark.parametrize("name", ["model.fp32.onnx", "model.int8.onnx"])
def test_tract_computes_the_same_classes(made: ForClients, name: str) -> None:
    found = ask("tract_run.py", made.folder / name, made.pixels)
    assert sum(np.equal(found, made.classes(name))) >= AT_LEAST


@pytest.mark.parametrize("precision", [Precision.INT8_STATIC, Precision.W8A16, Precision.INT4])
def test_tract_refuses_the_others_by_the_words_on_its_page(
    precision: Precision, tmp_path: Path
) -> None:
    path = small_artifact(tmp_path, Format.ONNX, precision)
    np.save(tmp_path / "pixels.npy", np.zeros((1, 64, 64, 3), np.uint8))
    command = [sys.executable, PROGRAMS / "tract_run.py", path, tmp_path / "pixels.npy"]
    paths = os.environ | {"PYTHONPATH": str(PYTHON)}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=paths)
    page = next(page for page in PAGES if page.stem == "tract").read_text()
    (row,) = (line for line in page.splitlines() if f"`--{precision}`" in line and "|" in line)
    assert ended.returncode == 1
    assert row.split("`")[-2] in ended.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_programs_of_the_pages_run(made: ForClients, page: Path, tmp_path: Path) -> None:
    if page.stem == "optimum" and not OPTIMUM.exists():
        pytest.skip(f"no Optimum in {OPTIMUM}: run make clients")
    if blocks(page, "js") and not (NPM.exists() and shutil.which("node")):
        pytest.skip(f"no Node.js, or no transformers.js in {NPM}: run make clients")
    (tmp_path / "artefacts").symlink_to(made.folder)
    (tmp_path / "hub").symlink_to(made.folder / "hub")
    (tmp_path / "photo.jpg").symlink_to(made.photos[0])
    (tmp_path / "node_modules").symlink_to(NPM / "node_modules")
    first = made.classes("model.fp32.onnx")[0]
    for language, name, interpreter in (
        ("python", "page.py", sys.executable),
        ("js", "page.mjs", "node"),
    ):
        for text in blocks(page, language):
            (tmp_path / name).write_text(text)
            said = run(tmp_path, interpreter, name).replace("_", " ")
            assert made.labels[first] in said or str(first) in said
