"""Artefacts in all forms that clients read, and photos to name: DeiT-tiny's, or a small model's."""

from __future__ import annotations

import csv
import functools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitedge
from tests.support.models import random_network
from vitedge.files.folder_lock import only_writer
from vitedge.images.image_sets import ImageSet
from vitedge.images.samples import Sample
from vitedge.importers import ImportOptions
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.targets.formats import Format
from vitedge.targets.layouts import Layout
from vitedge.targets.precisions import Precision

SHARED = Path(__file__).parents[3] / "shared" / "data"
N, N_CALIBRATION = 20, 32


@dataclass(frozen=True, eq=False)
class ForClients:
    """A model in all forms, and photos.

    Attributes:
        folder: ``model.*``, ``probabilities/model.*`` and ``hub``.
        photos: Photos as they are.
        pictures: The same, resized and cropped as the model wants them.
        pixels: The same as an array file.
        labels: Name of each class.
    """

    folder: Path
    photos: list[Path]
    pictures: list[Path]
    pixels: Path
    labels: tuple[str, ...]

    @functools.cache  # noqa: B019  # as many as there are artefacts
    def classes(self, name: str) -> list[int]:
        """What ``vitedge.load`` says of each photo by one of the files."""
        with vitedge.load(self.folder / name) as model:
            return [int(each) for each in model.logits(self.photos).argmax(axis=1)]


def made_once(name: str, factory: pytest.TempPathFactory) -> ForClients:
    """A model of ``MODELS`` in all forms, made by the first worker of a test run that wants it."""
    base = factory.getbasetemp()
    everybodys = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = everybodys / "for-clients" / name
    photos_file = folder / "photos.json"
    with only_writer(folder.parent, wait=True):
        if not photos_file.exists():  # it comes last
            folder.mkdir()
            photos = MODELS[name](folder)
            _write_pictures(folder, photos)
            photos_file.write_text(json.dumps([str(each) for each in photos]))
    photos = [Path(each) for each in json.loads(photos_file.read_text())]
    with vitedge.load(folder / "model.fp32.onnx") as model:
        labels = model.labels
    return ForClients(folder, photos, _pictures(folder), folder / "pixels.npy", labels)


def _small(folder: Path) -> list[Path]:
    """A small model with random weights, and pictures of smooth noise, which no decoder garbles."""
    network = random_network(3, image_size=(224, 224), patch_size=(32, 32), dim=48)
    network = replace(network, preprocessing=replace(network.preprocessing, resize=248))
    source = folder / "source.keras"
    write_keras(network, source)
    drawn = [_noise(folder / "photos" / f"{number:02d}.png", number) for number in range(3 * N)]
    photos = _clearest(network, drawn)
    _write_all_forms(source, folder, photos, ImportOptions())
    return photos


def _clearest(network: Network, photos: list[Path]) -> list[Path]:
    """The photos whose first class leads by most: clients round products differently."""
    logits = evaluate(network, network.preprocessing.batch(photos))["logits"]
    second, first = np.sort(logits, axis=1)[:, -2:].T
    return [photos[index] for index in sorted(np.argsort(second - first)[:N])]


def _deit_tiny(folder: Path) -> list[Path]:
    """timm's DeiT-tiny and photos, which developers keep beside their checkout."""
    data = SHARED / "imagenet_photos"
    labels = tuple((data / "synset_words.txt").read_text().splitlines())
    with (data / "calibration" / "labels.csv").open() as stream:
        names = [row["file"] for row in csv.DictReader(stream)][:N_CALIBRATION]
    source = SHARED / "deit_tiny" / "deit_tiny_patch16_224.safetensors"
    calibration = [data / "calibration" / name for name in names]
    _write_all_forms(source, folder, calibration, ImportOptions(labels=labels, resize=248))
    return sorted((data / "validation").glob("*.jpg"))[:N]


MODELS: dict[str, Callable[[Path], list[Path]]] = {"small": _small, "deit_tiny": _deit_tiny}
"""Each writes a model's artefacts into a folder, and names the photos to compare clients on."""


def _noise(path: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8))
    path.parent.mkdir(exist_ok=True)
    width, height = (int(side) for side in rng.integers(240, 400, 2))
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


def _write_all_forms(
    source: Path, folder: Path, calibration: list[Path], importing: ImportOptions
) -> None:
    images = ImageSet("photos", [Sample(each.name, each, None) for each in calibration])
    plain = ConvertOptions(
        precisions=(Precision.FP32, Precision.INT8),
        output=folder,
        importing=importing,
        name="model",
    )
    convert(source, plain, calibration=images)
    hub = replace(
        plain,
        formats=(Format.ONNX,),
        output=folder / "hub",
        layout=Layout.HUGGING_FACE,
        name=None,
    )
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


def _pictures(folder: Path) -> list[Path]:
    return [folder / "pictures" / f"{number:02d}.png" for number in range(N)]


def _write_pictures(folder: Path, photos: list[Path]) -> None:
    with vitedge.load(folder / "model.fp32.onnx") as model:
        pixels = model.preprocessing.batch(photos)
    np.save(folder / "pixels.npy", pixels)
    (folder / "pictures").mkdir()
    for path, each in zip(_pictures(folder), pixels, strict=True):
        Image.fromarray(each).save(path)
