"""Clients that nobody here wrote name the same classes as ``vitedge.load`` does.

They have an environment of their own, which ``make clients`` makes. Where a client cannot prepare
photos as we do, it gets ours as pictures of the right size.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vitedge
from tests.e2e.test_client_pages import PAGES, blocks
from vitedge.images.image_sets import ImageSet, Sample
from vitedge.importers import ImportOptions
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.targets.formats import Format
from vitedge.targets.layouts import Layout
from vitedge.targets.precisions import Precision

PROGRAMS = Path(__file__).parents[1] / "support" / "client_programs"
SHARED = Path(__file__).parents[3] / "shared" / "data"
CLIENTS = Path(os.environ.get("VITEDGE_CLIENTS", Path(__file__).parents[2] / ".clients"))
PYTHON, NODE = CLIENTS / "venv" / "bin" / "python", CLIENTS / "node"

N, AT_LEAST, N_CALIBRATION = 20, 19, 32

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason=f"no clients in {CLIENTS}: run make clients"),
    pytest.mark.skipif(not SHARED.exists(), reason=f"no DeiT-tiny and photos in {SHARED}"),
]


@dataclass(frozen=True)
class Made:
    """DeiT-tiny in all forms, and what it says of the photos.

    Attributes:
        folder: ``model.*`` files.
        photos: Photos as they are.
        pictures: The same, resized and cropped as the model wants them.
        pixels: The same as an array file.
        classes: The first class of each.
        labels: Name of each class.
    """

    folder: Path
    photos: list[Path]
    pictures: list[Path]
    pixels: Path
    classes: list[int]
    labels: tuple[str, ...]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("clients")
    labels = (SHARED / "imagenet_photos" / "synset_words.txt").read_text().splitlines()
    with (SHARED / "imagenet_photos" / "calibration" / "labels.csv").open() as stream:
        calibration = SHARED / "imagenet_photos" / "calibration"
        files = [calibration / row["file"] for row in csv.DictReader(stream)][:N_CALIBRATION]
    images = ImageSet("photos", [Sample(each.name, each, None) for each in files])
    source = SHARED / "deit_tiny" / "deit_tiny_patch16_224.safetensors"
    importing = ImportOptions(labels=tuple(labels), resize=248)
    plain = ConvertOptions(
        precisions=(Precision.FP32, Precision.INT8), output=folder, importing=importing
    )
    convert(source, plain, calibration=images)
    hub = replace(plain, formats=(Format.ONNX,), output=folder / "hub", layout=Layout.HUGGING_FACE)
    convert(source, hub, calibration=images)
    probable = replace(
        plain,
        formats=(Format.TFLITE, Format.OPENVINO),
        precisions=(Precision.FP32,),
        output=folder / "probabilities",
        probabilities=True,
        features=True,
    )
    convert(source, probable)
    for path in [*folder.glob("*.*"), *(folder / "probabilities").iterdir()]:
        path.rename(path.with_name(path.name.replace(source.stem, "model")))
    return with_photos(folder)


def with_photos(folder: Path) -> Made:
    photos = sorted((SHARED / "imagenet_photos" / "validation").glob("*.jpg"))[:N]
    with vitedge.load(folder / "model.fp32.onnx") as model:
        pixels = model.preprocessing.batch(photos)
        classes = model.logits(photos).argmax(axis=1).tolist()
        labels = model.labels
    np.save(folder / "pixels.npy", pixels)
    (folder / "pictures").mkdir()
    pictures = [folder / "pictures" / f"{number:02d}.png" for number in range(N)]
    for path, each in zip(pictures, pixels, strict=True):
        Image.fromarray(each).save(path)
    return Made(folder, photos, pictures, folder / "pixels.npy", classes, labels)


def ask(program: str, *arguments: object) -> Any:
    """What a program in the clients' environment prints, from JSON."""
    command = [str(PYTHON), str(PROGRAMS / program)]
    environment = dict(os.environ)
    if program.endswith(".mjs"):
        command = ["node", str(PROGRAMS / program)]
        environment["PACKAGE"] = str(NODE)
    ended = subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout.splitlines()[-1])


def agreement(found: list[Any], made: Made) -> int:
    """On how many pictures a client names the class that we name, index and words alike."""
    names = [label.replace(" ", "_") for label in made.labels]
    for index, name, _ in found:
        assert name.replace(" ", "_") == names[index]
    return sum(index == ours for (index, *_), ours in zip(found, made.classes, strict=True))


@pytest.mark.parametrize("name", ["model.fp32.tflite", "model.int8.tflite"])
def test_mediapipe_classifies(made: Made, name: str) -> None:
    found = ask("mediapipe_classifier.py", made.folder / name, *made.pictures)
    assert agreement(found, made) >= AT_LEAST


def test_mediapipe_embeds_features_and_shows_probabilities(made: Made) -> None:
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


def test_tflite_support_reads_the_metadata(made: Made) -> None:
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
def test_the_model_api_classifies(made: Made, name: str) -> None:
    engine, _, file = name.rpartition(":")
    place = f"{engine}:{made.folder / file}" if engine else made.folder / file
    found = ask("model_api_classifier.py", place, *made.pictures)
    assert agreement(found, made) >= AT_LEAST


@pytest.mark.parametrize("file", ["model.onnx", "model_quantized.onnx"])
def test_optimum_classifies_photos(made: Made, file: str) -> None:
    found = ask("optimum_classifier.py", f"{made.folder / 'hub'}:{file}", *made.photos)
    assert agreement(found, made) >= AT_LEAST


@pytest.mark.skipif(not NODE.exists(), reason=f"no transformers.js in {NODE}: run make clients")
@pytest.mark.parametrize("dtype", ["fp32", "q8"])
def test_transformers_js_classifies_photos(made: Made, dtype: str) -> None:
    found = ask("transformers_js.mjs", made.folder / "hub", dtype, *made.photos)
    assert agreement(found, made) >= AT_LEAST


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_programs_of_the_pages_run(made: Made, page: Path, tmp_path: Path) -> None:
    (tmp_path / "artefacts").symlink_to(made.folder)
    (tmp_path / "hub").symlink_to(made.folder / "hub")
    (tmp_path / "photo.jpg").symlink_to(made.photos[0])
    programs = {"page.py": blocks(page, "python"), "page.mjs": blocks(page, "js")}
    for name, texts in programs.items():
        for text in texts:
            (tmp_path / name).write_text(text)
            if name.endswith(".mjs") and not NODE.exists():
                pytest.skip(f"no transformers.js in {NODE}: run make clients")
            (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
            command = "node" if name.endswith(".mjs") else str(PYTHON)
            done = subprocess.run(
                [command, name], cwd=tmp_path, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr[-2000:]
            first = made.labels[made.classes[0]]
            said = done.stdout.replace("_", " ")
            assert first in said or str(made.classes[0]) in said


@pytest.mark.parametrize("name", ["model.fp32.onnx", "model.int8.onnx"])
def test_tract_computes_the_same_classes(made: Made, name: str) -> None:
    found = ask("tract_run.py", made.folder / name, made.pixels)
    assert sum(np.equal(found, made.classes)) >= AT_LEAST
