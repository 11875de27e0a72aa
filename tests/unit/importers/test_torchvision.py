"""What torchvision's shapes tell, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.support.golden_cases import GOLDEN
from tests.support.plain import plain
from vitedge.errors import ModelError
from vitedge.images.interpolation import Interpolation
from vitedge.importers import ImportOptions, read_model
from vitedge.importers.reading.torch_file import open_torch

VIT = GOLDEN / "torchvision_vit" / "vit.pth"
HEADS = ImportOptions(heads=2)


def arrays() -> dict[str, np.ndarray]:
    with open_torch(VIT) as tensors:
        return {name: tensors[name] for name in tensors.names}


def saved(tmp_path: Path, content: dict[str, np.ndarray]) -> Path:
    path = tmp_path / "vit.safetensors"
    save_file(content, path)
    return path


def test_names_of_older_versions_are_read_alike(tmp_path: Path) -> None:
    older = {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): array
        for name, array in arrays().items()
    }
    found = read_model(saved(tmp_path, older), HEADS).network
    expected = read_model(VIT, HEADS).network
    name = "blocks.1.fc2.weight"
    np.testing.assert_array_equal(plain(found).arrays[name], plain(expected).arrays[name])


@pytest.mark.parametrize(
    ("patches", "resize", "interpolation"),
    [(56, 256, Interpolation.BILINEAR), (96, 384, Interpolation.BICUBIC)],
    ids=["224", "384"],
)
def test_preprocessing_is_that_of_the_models_published_at_the_size(
    patches: int, resize: int, interpolation: Interpolation, tmp_path: Path
) -> None:
    positions = np.zeros((1, 1 + patches**2, 16), np.float32)
    path = saved(tmp_path, arrays() | {"encoder.pos_embedding": positions})
    preprocessing = read_model(path, HEADS).network.preprocessing
    assert (preprocessing.resize, preprocessing.interpolation) == (resize, interpolation)


def test_a_convolutional_stem_is_no_vit(tmp_path: Path) -> None:
    stem = {"conv_proj.conv_bn_relu_0.0.weight": np.ones((8, 3, 3, 3), np.float32)}
    with pytest.raises(ModelError, match="no place in a ViT of its kind"):
        read_model(saved(tmp_path, arrays() | stem), HEADS)


def test_a_fused_projection_that_is_no_three_is_an_error(tmp_path: Path) -> None:
    name = "encoder.layers.encoder_layer_0.self_attention.in_proj_weight"
    changed = arrays() | {name: np.ones((47, 16), np.float32)}
    with pytest.raises(ModelError, match="47 rows, which is not query, key and value"):
        read_model(saved(tmp_path, changed), HEADS)
