"""What of Swin the weights tell, what is asked for, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.support.golden_cases import GOLDEN, TOLERANCE
from vitedge.errors import ModelError
from vitedge.importers import ImportOptions, read_model
from vitedge.network.evaluate import forward
from vitedge.network.tasks import Task

SWIN = GOLDEN / "timm_swin" / "model.safetensors"
SWIN_V2 = GOLDEN / "timm_swinv2" / "model.safetensors"


def test_the_authors_own_layout_is_read(tmp_path: Path) -> None:
    # A stage ends with the merging behind it, and buffers lie beside the weights.
    arrays = {
        re.sub(r"^layers\.1\.downsample", "layers.0.downsample", name): array
        for name, array in load_file(SWIN).items()
    }
    arrays["layers.0.blocks.1.attn_mask"] = np.zeros((4, 16, 16), np.float32)
    arrays["layers.0.blocks.1.attn.relative_position_index"] = np.zeros((16, 16), np.int64)
    save_file(arrays, tmp_path / "swin.safetensors")
    network = read_model(tmp_path / "swin.safetensors").network
    with np.load(SWIN.parent / "expected.npz") as expected:
        difference = np.abs(forward(network, expected["images"]) - expected["logits"]).max()
        assert difference / np.ptp(expected["logits"]) <= TOLERANCE


def test_windows_that_no_table_tells_are_asked_for(tmp_path: Path) -> None:
    shutil.copy(SWIN_V2, tmp_path)
    path = tmp_path / "model.safetensors"
    with pytest.raises(ModelError, match="size of its windows: give --architecture"):
        read_model(path)
    with pytest.raises(ModelError, match="'swinv3' is not a Swin of timm"):
        read_model(path, ImportOptions(architecture="swinv3"))


@pytest.mark.parametrize(
    ("architecture", "fact"),
    [
        ("swin_tiny_patch4_window7_224", "version is 1, not 2"),
        ("swinv2_tiny_window8_256", "dim is 96, not 8"),
    ],
)
def test_weights_of_another_architecture_are_refused(
    architecture: str, fact: str, tmp_path: Path
) -> None:
    # With exit 0, their windows were those of the architecture that was said.
    options = ImportOptions(architecture=architecture, image_size=(16, 16))
    path = shutil.copy(SWIN_V2, tmp_path)
    with pytest.raises(ModelError, match=fact):
        read_model(Path(path), options)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"window_size": 2}, "biases of windows of 4 x 4, not those of 2 x 2"),
        ({"window_size": [4, 2]}, "windows of 4 x 2 tokens.* export the model to .onnx"),
        ({"window_size": []}, r"says 'window_size' \[\]"),
        ({"window_size": [4, 4, 2]}, r"says 'window_size' \[4, 4, 2\].* of one size"),
        ({"window_size": [[4, 4], 4, [4, 2]]}, "windows of 4 x 2 tokens"),
        ({"pretrained_window_sizes": [2, 2]}, "biases of windows of 4 x 4"),
        ({"depths": [2, 1]}, r"depths is \[2, 1\], not \[2, 2\]"),
        ({"always_partition": True}, "gives its model 'always_partition'"),
    ],
)
def test_a_config_that_contradicts_the_weights_is_refused(
    arguments: dict[str, Any], match: str, tmp_path: Path
) -> None:
    arrays = load_file(SWIN_V2)
    axes = np.sign(place := np.arange(-3, 4) * 8 / 3) * np.log2(np.abs(place) + 1) / 3
    distances = np.stack(np.meshgrid(axes, axes, indexing="ij"), axis=-1)[None]
    arrays["layers.0.blocks.0.attn.relative_coords_table"] = distances.astype(np.float32)
    config = json.loads((SWIN_V2.parent / "config.json").read_text("utf-8"))
    path = tmp_path / "model.safetensors"
    save_file(arrays, path)
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    assert read_model(path).network.classes == 5
    config["model_args"] |= arguments
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(ModelError, match=match):
        read_model(path)


@pytest.mark.parametrize("beside", ["model_args", "pretrained_cfg"])
@pytest.mark.parametrize(("pool", "match"), [("max", "by 'max'"), ("", "gives all its tokens")])
def test_a_pooling_other_than_the_mean_is_refused(
    pool: str, match: str, beside: str, tmp_path: Path
) -> None:
    shutil.copy(SWIN, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({beside: {"global_pool": pool}}), "utf-8")
    with pytest.raises(ModelError, match=f"{match}.* export it to .onnx"):
        read_model(tmp_path / "model.safetensors")


def test_windows_that_are_no_squares_are_refused(tmp_path: Path) -> None:
    # A table of 3 x 27 biases was taken for that of windows of 5 x 5.
    shutil.copy(SWIN, tmp_path)
    config = {"architecture": "swin_variant", "model_args": {"window_size": [2, 14]}}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(ModelError, match=r"windows of 2 x 14 tokens.* export the model to \.onnx"):
        read_model(tmp_path / "model.safetensors")


def test_each_stage_may_have_windows_of_its_own(tmp_path: Path) -> None:
    shutil.copy(SWIN, tmp_path)
    config = {"architecture": "swin_variant", "model_args": {"window_size": [4, 4, 4, 2]}}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    assert read_model(tmp_path / "model.safetensors").network.classes == 5


def test_absolute_positions_of_a_swin_are_refused_by_their_field(tmp_path: Path) -> None:
    folder = shutil.copytree(GOLDEN / "hugging_face_swin", tmp_path / "swin")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["use_absolute_embeddings"] = True
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(ModelError, match=r"'use_absolute_embeddings'.* export the model to \.onnx"):
        read_model(folder)


def test_another_image_size_has_more_windows() -> None:
    network = read_model(SWIN, ImportOptions(image_size=(32, 16))).network
    assert network.image_shape == (32, 16, 3)
    assert network.classes == 5


def test_windows_that_do_not_divide_the_grid_are_refused() -> None:
    with pytest.raises(ModelError, match="windows of 4 x 4 do not divide a grid of 10 x 10"):
        read_model(SWIN, ImportOptions(image_size=(20, 20)))


def test_a_trunk_is_an_embedding() -> None:
    network = read_model(GOLDEN / "hugging_face_swin_model").network
    assert network.task is Task.EMBEDDING
    assert network.main.shape == (16,)
