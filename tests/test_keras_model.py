"""The Keras model computes what the reference computes, and survives saving."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.models import random_images, random_vit
from vitedge.keras_model import from_keras, to_keras
from vitedge.spec import Activation, NormKind, NormPosition, Pooling
from vitedge.vit import ViT, forward


@dataclass(frozen=True)
class Kind:
    name: str
    choices: dict[str, Any] = field(default_factory=dict)


KINDS = [
    Kind("plain"),
    Kind("distilled", {"prefix_tokens": 2, "pooling": Pooling.DISTILLED}),
    Kind("registers", {"prefix_tokens": 5}),
    Kind("mean of patches", {"prefix_tokens": 0, "pooling": Pooling.MEAN}),
    Kind("class and mean", {"pooling": Pooling.CLASS_AND_MEAN}),
    Kind("flattened", {"pooling": Pooling.FLATTEN}),
    Kind("all norms", {"qk_norm": True, "input_norm": True, "pooled_norm": True}),
    Kind(
        "pooled norm of two tokens",
        {"prefix_tokens": 2, "pooling": Pooling.DISTILLED, "pooled_norm": True},
    ),
    Kind("post-norm", {"norm_position": NormPosition.POST}),
    Kind("RMS norm", {"norm_kind": NormKind.RMS}),
    Kind("hidden layers in the head", {"head_hidden": (12, 7)}),
    Kind("grey, not square", {"channels": 1, "image_size": (16, 24), "patch_size": (4, 8)}),
    Kind("narrow heads", {"heads": 2, "head_dim": 5}),
    *(Kind(f"{activation}", {"activation": activation}) for activation in Activation),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def vit(request: pytest.FixtureRequest) -> ViT:
    return random_vit(**request.param.choices)


def assert_same(first: ViT, second: ViT) -> None:
    assert first.config == second.config
    assert first.labels == second.labels
    assert first.preprocessing == second.preprocessing
    arrays = dict(second.named_arrays())
    for name, array in first.named_arrays():
        np.testing.assert_array_equal(array, arrays.pop(name), err_msg=name)
    assert not arrays


def assert_computes(model: Any, vit: ViT) -> None:
    images = random_images(vit)
    # Logits are of order 1; sums of some hundred float32 products in another order.
    np.testing.assert_allclose(model(images), forward(vit, images), rtol=1e-4, atol=1e-4)


def test_it_computes_what_the_reference_computes(vit):
    assert_computes(to_keras(vit), vit)


def test_there_and_back_changes_nothing(vit):
    assert_same(from_keras(to_keras(vit)), vit)


def test_a_saved_model_comes_back_whole(vit, tmp_path):
    path = tmp_path / "model.keras"
    to_keras(vit).save(path)
    model = keras.saving.load_model(path)
    assert_same(from_keras(model), vit)
    assert_computes(model, vit)


def test_raw_pixels_are_left_unnormalised():
    vit = random_vit()
    raw = replace(vit, config=replace(vit.config, raw_pixels=True))
    images = random_images(raw)
    # Pixels reach 255, so logits are of order 100.
    np.testing.assert_allclose(to_keras(raw)(images), forward(raw, images), rtol=1e-3, atol=1e-2)


def test_features_and_classifier_make_the_logits():
    vit = random_vit(head_hidden=(6,))
    model, images = to_keras(vit), random_images(vit)
    features = model.features(images)
    assert features.shape == (2, vit.config.pooled_dim)
    np.testing.assert_array_equal(model.classify(features), model(images))


def test_thinning_sees_both_branches_of_every_block():
    vit = random_vit(depth=3)
    seen: list[int] = []

    def watch(index: int) -> Any:
        def thin(branch: Any) -> Any:
            seen.append(index)
            return 0 * branch

        return thin

    model, images = to_keras(vit), random_images(vit)
    features = model.features(images, [watch(index) for index in range(3)])
    assert seen == [0, 0, 1, 1, 2, 2]
    # With every branch gone, the class token reaches the norm as it was.
    embedded = keras.ops.broadcast_to(vit.prefix, (2, *vit.prefix.shape))
    # The mean over 24 float32 values may be summed in another order.
    expected = model.final_norm(embedded)[:, 0]
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["import keras; import vitedge", "import vitedge; import keras"])
def test_importing_vitedge_is_all_that_loading_needs(order: str, tmp_path: Path):
    path = tmp_path / "model.keras"
    vit = random_vit()
    to_keras(vit).save(path)
    images = random_images(vit)
    np.save(tmp_path / "images.npy", images)
    program = (
        f"{order}; import numpy; model = keras.saving.load_model({str(path)!r}); "
        f"images = numpy.load({str(tmp_path / 'images.npy')!r}); "
        f"numpy.save({str(tmp_path / 'logits.npy')!r}, model(images))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    # The same operations in another process.
    np.testing.assert_allclose(
        np.load(tmp_path / "logits.npy"), forward(vit, images), rtol=1e-4, atol=1e-4
    )
