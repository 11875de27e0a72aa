"""Models of other libraries, live: saved models are lifted, what is no ViT goes generically.

Run with ``pytest reference`` where the ``reference`` extra is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np
import pytest
import tf_keras
import torch

from reference.golden import SMALL, images_of
from reference.keras_models import randomize
from reference.torch_models import randomize as randomize_torch
from reference.tutorial_model import tutorial_model
from tests.support.golden_cases import golden_cases
from tests.support.plain import plain
from vitedge.classifier import load
from vitedge.elements.vision_transformer import network_of
from vitedge.importers import ImportOptions
from vitedge.importers.lift import lift
from vitedge.importers.lift.keras_files import open_keras_model
from vitedge.network.evaluate import forward
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.source_check import read_compared
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

# The libraries warn about themselves and each other; here it is their numbers that matter.
pytestmark = pytest.mark.filterwarnings("default")

# Probing rounds each entry of a matrix to float32, and two blocks add up.
LIFT_TOLERANCE = 2e-5

RAW = {"mean": (0.0,) * 3, "std": (1.0,) * 3}


def assert_artefacts_compute(source: Path, options: ConvertOptions, logits: np.ndarray) -> None:
    """Converts a source and runs what came out on the images that the logits are of."""
    shape = (len(logits), 64, 64, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for written in convert(source, options):
        assert written.metadata.source.path.startswith("generic: ")
        with load(written.path) as classifier:
            answers = classifier.logits(list(images))
        difference = float(np.abs(answers - logits).max() / np.ptp(logits))
        print(f"{written.path.name}: {difference:.1e} of the range")
        assert difference <= written.metadata.precision.row.tolerance.relative_difference


def images_and_pixels(n: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images, and the same scaled to 0..1."""
    images = np.random.default_rng(0).integers(0, 256, (n, 64, 64, 3), np.uint8)
    return images, (images / np.float32(255)).astype(np.float32)


@pytest.mark.parametrize("library", [tf_keras, keras], ids=["Keras 2", "Keras 3"])
def test_the_tutorials_whole_saved_model_is_lifted(library: Any, tmp_path: Path) -> None:
    images = images_of(SMALL)
    pixels = (images / np.float32(255)).astype(np.float32)
    model = tutorial_model(library, SMALL, len(images))
    logits = np.asarray(model(pixels))
    randomize(model)
    logits = np.asarray(model(pixels))
    if library is tf_keras:
        model.save(tmp_path / "saved", save_format="tf")
    else:
        model.export(tmp_path / "saved", verbose=False)
    # Its variables are numbered, not named, so it goes by its graph, which knows the heads.
    imported = read_compared(tmp_path / "saved", ImportOptions(**RAW))
    print(imported.path)
    assert imported.path.startswith("lifted: 2 blocks, ")
    assert plain(imported.network).heads == SMALL.heads
    difference = np.abs(forward(imported.network, images) - logits).max()
    assert difference <= LIFT_TOLERANCE * np.ptp(logits)


@pytest.mark.parametrize(
    "name",
    [
        "keras_hub_vit",
        "keras_hub_deit",
        "keras_hub_averaged_with_class_token",
        "keras_hub_converter",
        "keras_hub_vit_preset",
        "keras_hub_deit_preset",
    ],
)
def test_a_whole_model_whose_library_is_here_is_run_on_import(name: str) -> None:
    case = next(case for case in golden_cases() if case.name == name)
    imported = read_compared(case.model, case.options)
    print(f"{name}: {imported.path}")
    assert imported.path == f"by name: {case.importer}, {imported.proof}"


@pytest.mark.parametrize("kind", ["ViT", "DeiT"])
def test_saved_models_of_keras_hub_are_lifted(kind: str, tmp_path: Path) -> None:
    sizes = {"image_shape": (64, 64, 3), "patch_size": 16, "num_layers": 3, "num_heads": 4}
    backbone = getattr(keras_hub.models, f"{kind}Backbone")(
        **sizes, hidden_dim=64, **({"mlp_dim": 128} if kind == "ViT" else {"intermediate_dim": 128})
    )
    model = getattr(keras_hub.models, f"{kind}ImageClassifier")(backbone=backbone, num_classes=7)
    randomize(model)
    model.save(tmp_path / "model.keras")
    images, pixels = images_and_pixels()
    lifted = lift(open_keras_model(tmp_path / "model.keras").probe(), **RAW)
    print(lifted)
    logits = np.asarray(model(pixels))
    found = forward(network_of(lifted.vit), images)
    assert np.abs(found - logits).max() <= LIFT_TOLERANCE * np.ptp(logits)


def test_the_mit_of_keras_hub_goes_generically(tmp_path: Path) -> None:
    backbone = keras_hub.models.MiTBackbone(
        image_shape=(64, 64, 3),
        layerwise_depths=[1, 1, 1, 1],
        num_layers=4,
        layerwise_num_heads=[1, 2, 4, 4],
        layerwise_sr_ratios=[8, 4, 2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3, 3, 3],
        layerwise_strides=[4, 2, 2, 2],
        hidden_dims=[16, 32, 64, 64],
    )
    model = keras_hub.models.MiTImageClassifier(backbone=backbone, num_classes=7)
    randomize(model)
    model.save(tmp_path / "mit.keras")
    _, pixels = images_and_pixels()
    options = ConvertOptions(
        precisions=(Precision.FP32, Precision.FP16, Precision.INT8),
        output=tmp_path,
        importing=ImportOptions(**RAW),
    )
    assert_artefacts_compute(tmp_path / "mit.keras", options, np.asarray(model(pixels)))


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "script"])
def test_the_swin_of_timm_goes_generically_from_onnx(dynamo: bool, tmp_path: Path) -> None:
    from timm.models.swin_transformer import SwinTransformer

    model = SwinTransformer(
        img_size=64, embed_dim=24, depths=(2, 2), num_heads=(2, 4), window_size=4, num_classes=7
    )
    randomize_torch(model.eval())
    _, pixels = images_and_pixels()
    tensor = torch.from_numpy(pixels.transpose(0, 3, 1, 2))
    with torch.no_grad():
        logits = model(tensor).numpy()
    torch.onnx.export(model, (tensor[:1],), tmp_path / "swin.onnx", dynamo=dynamo)
    options = ConvertOptions(
        formats=(Format.ONNX, Format.OPENVINO),
        precisions=(Precision.FP32, Precision.FP16, Precision.INT8),
        output=tmp_path / "artefacts",
        importing=ImportOptions(**RAW),
    )
    assert_artefacts_compute(tmp_path / "swin.onnx", options, logits)
