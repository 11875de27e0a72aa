"""What of Swin the weights tell, what is asked for, and what is refused."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.support.golden_cases import GOLDEN, TOLERANCE
from vitedge.errors import ModelError
from vitedge.importers import ImportOptions, read_model
from vitedge.network.evaluate import forward
from vitedge.network.tasks import Task

SWIN = GOLDEN / "timm_swin" / "model.safetensors"


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
    shutil.copy(GOLDEN / "timm_swinv2" / "model.safetensors", tmp_path)
    path = tmp_path / "model.safetensors"
    with pytest.raises(ModelError, match="size of its windows: give --architecture"):
        read_model(path)
    options = ImportOptions(architecture="swinv2_tiny_window8_256", image_size=(16, 16))
    assert read_model(path, options).network.classes == 5
    with pytest.raises(ModelError, match="'swinv3' is not a Swin of timm"):
        read_model(path, ImportOptions(architecture="swinv3"))


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
