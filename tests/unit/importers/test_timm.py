"""What timm's shapes tell, what is asked for, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.support.golden_cases import GOLDEN
from tests.support.plain import plain
from vitedge.elements.kinds import Pooling
from vitedge.errors import ModelError
from vitedge.images.interpolation import Interpolation
from vitedge.importers import ImportOptions, read_model
from vitedge.network.evaluate import forward
from vitedge.network.tasks import Task

VIT = GOLDEN / "timm_vit" / "model.safetensors"
HEADS = ImportOptions(heads=2)


def changed(tmp_path: Path, *dropped: str, **added: np.ndarray) -> Path:
    """The golden ViT with some arrays taken out and others put in."""
    arrays = {name: array for name, array in load_file(VIT).items() if name not in dropped}
    path = tmp_path / "model.safetensors"
    save_file(arrays | {name.replace("__", "."): array for name, array in added.items()}, path)
    return path


def test_unusual_widths_need_the_number_of_heads() -> None:
    with pytest.raises(ModelError, match="width 16 has no usual one: give --heads"):
        read_model(VIT)
    with pytest.raises(ModelError, match="3 heads do not divide an attention of width 16"):
        read_model(VIT, ImportOptions(heads=3))


@pytest.mark.parametrize(
    ("case", "prefix_tokens", "pooling"),
    [
        ("vit", 1, Pooling.CLASS),
        ("deit_distilled", 2, Pooling.DISTILLED),
        ("deit3", 1, Pooling.CLASS),
        ("registers", 5, Pooling.CLASS),
        ("registers_averaged", 4, Pooling.MEAN),
        ("averaged", 0, Pooling.MEAN),
    ],
)
def test_tokens_and_pooling_are_inferred(case: str, prefix_tokens: int, pooling: Pooling) -> None:
    config = plain(read_model(GOLDEN / f"timm_{case}" / "model.safetensors", HEADS).network)
    assert (config.prefix_tokens, config.pooling) == (prefix_tokens, pooling)


def test_weights_that_have_no_place_are_no_vit(tmp_path: Path) -> None:
    path = changed(tmp_path, blocks__0__attn__relative_position=np.ones((3, 3), np.float32))
    with pytest.raises(ModelError, match=r"no place in a ViT of its kind: blocks\.0\.attn\.rel"):
        read_model(path, HEADS)


def test_features_without_a_classifier_are_an_embedding(tmp_path: Path) -> None:
    path = changed(tmp_path, "head.weight", "head.bias")
    network = read_model(path, HEADS).network
    assert network.task is Task.EMBEDDING
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    arrays = load_file(VIT)
    logits = forward(network, images) @ arrays["head.weight"].T + arrays["head.bias"]
    expected = forward(read_model(VIT, HEADS).network, images)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_a_hidden_head_layer_is_read(tmp_path: Path) -> None:
    hidden = {"pre_logits__fc__weight": np.eye(16, dtype=np.float32)}
    path = changed(tmp_path, **hidden, pre_logits__fc__bias=np.zeros(16, np.float32))
    network = read_model(path, HEADS).network
    assert [layer.weight.shape for layer in plain(network).head_hidden] == [(16, 16)]


def test_positions_that_are_no_square_need_the_image_size(tmp_path: Path) -> None:
    arrays = load_file(VIT)
    positions = arrays["pos_embed"][:, : 1 + 2 * 7]
    positions = np.ascontiguousarray(positions)
    path = changed(tmp_path, "pos_embed", pos_embed=positions)
    with pytest.raises(ModelError, match="not a square of patches with 1 tokens before it"):
        read_model(path, HEADS)
    with pytest.raises(ModelError, match=r"16x16 pixels have 4 x 4 .* such as 8x28 or 28x8"):
        read_model(path, ImportOptions(heads=2, image_size=(16, 16)))
    network = read_model(path, ImportOptions(heads=2, image_size=(8, 28))).network
    assert plain(network).grid == (2, 7)
    np.testing.assert_array_equal(plain(network).arrays["positions"], positions[0, 1:])


def test_preprocessing_is_that_of_deit_by_default() -> None:
    preprocessing = read_model(
        VIT, ImportOptions(heads=2, image_size=(224, 224))
    ).network.preprocessing
    assert preprocessing.size == (224, 224)
    assert preprocessing.interpolation is Interpolation.BICUBIC
    # 16 pixels of floor(16 / 0.9) = 17, scaled up; a model of 224 itself has 248.
    assert preprocessing.resize == 238


def test_a_hub_folder_brings_preprocessing_and_labels(tmp_path: Path) -> None:
    shutil.copy(VIT, tmp_path)
    published = {
        "architecture": "vit_nano",
        "label_names": ["n01", "n02", "n03", "n04", "n05"],
        "label_descriptions": {"n01": "tench", "n02": "goldfish"},
        "pretrained_cfg": {
            "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
            "crop_pct": 0.8,
            "interpolation": "bilinear",
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(published))
    network = read_model(tmp_path, HEADS).network
    assert network.labels == ("tench", "goldfish", "n03", "n04", "n05")
    assert network.preprocessing.mean == (0.5, 0.5, 0.5)
    assert network.preprocessing.std == (0.25, 0.25, 0.25)
    assert network.preprocessing.resize == 20
    assert network.preprocessing.interpolation is Interpolation.BILINEAR


@pytest.mark.slow
def test_deit_tiny_is_right_about_real_photos(shared_data: Path) -> None:
    network = read_model(shared_data / "deit_tiny" / "deit_tiny_patch16_224.safetensors").network
    assert plain(network).heads == 3
    assert network.preprocessing.resize == 248
    folder = shared_data / "imagenet_photos" / "validation"
    lines = (folder / "labels.csv").read_text().splitlines()[1:33]
    names, labels = zip(*(line.split(",")[:2] for line in lines), strict=True)
    logits = forward(network, network.preprocessing.batch([folder / name for name in names]))
    right = (logits.argmax(axis=1) == np.array(labels, int)).mean()
    # 86.7 % of all 1,000 photos; four standard errors of 32 photos are 24 points.
    assert right > 0.62


def outside(folder: Path, **more: np.ndarray) -> Path:
    """A backbone below a prefix, as training scripts keep it, and its head beside it."""
    arrays = load_file(VIT)
    head = {name: arrays.pop(name) for name in ("head.weight", "head.bias")}
    beside = {name.replace("head.", "classifier."): array for name, array in head.items()}
    state = {f"backbone.{name}": array for name, array in arrays.items()}
    save_file(state | beside | more, folder / "outside.safetensors")
    return folder / "outside.safetensors"


def test_a_head_outside_the_backbone_is_taken_when_the_user_names_it(tmp_path: Path) -> None:
    path = outside(tmp_path)
    with pytest.raises(ModelError, match=r"if 'classifier' is its head, --head classifier"):
        read_model(path, HEADS)
    read = read_model(path, replace(HEADS, head="classifier"))
    assert "with the head 'classifier'" in read.path
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    expected = forward(read_model(VIT, HEADS).network, images)
    np.testing.assert_allclose(forward(read.network, images), expected, atol=1e-6)


def renamed_head(folder: Path) -> Path:
    """A backbone whose head was replaced by a layer of another name."""
    arrays = {name.replace("head.", "fc."): array for name, array in load_file(VIT).items()}
    save_file(arrays, folder / "renamed.safetensors")
    return folder / "renamed.safetensors"


def test_a_head_of_another_name_is_taken_when_the_user_names_it(tmp_path: Path) -> None:
    path = renamed_head(tmp_path)
    with pytest.raises(ModelError, match=r"fc.bias, fc.weight; if 'fc' is its head, --head"):
        read_model(path, HEADS)
    read = read_model(path, replace(HEADS, head="fc"))
    assert "with the head 'fc'" in read.path
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    expected = forward(read_model(VIT, HEADS).network, images)
    np.testing.assert_allclose(forward(read.network, images), expected, atol=1e-6)


@pytest.mark.parametrize("head", ["fc", "backbone.norm"])
def test_a_head_that_is_not_there_is_refused(head: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"no layer '{head}' for --head, but 'classifier'"):
        read_model(outside(tmp_path), replace(HEADS, head=head))


def test_a_model_with_a_head_takes_no_other(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has the head 'head' already: leave out --head"):
        read_model(VIT, replace(HEADS, head="classifier"))


def test_what_else_lies_beside_is_still_asked_about(tmp_path: Path) -> None:
    path = outside(tmp_path, neck__weight=np.ones((3, 3), np.float32))
    with pytest.raises(ModelError, match="neck__weight"):
        read_model(path, replace(HEADS, head="classifier"))
