"""Sizes of images, patches and channels, from every kind of source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.golden_cases import GOLDEN
from tests.support.torch_files import save_torch, timm_weights
from vitedge.elements.patches import patchify
from vitedge.errors import DataError
from vitedge.importers import ImportOptions, read_model
from vitedge.network.evaluate import forward
from vitedge.network.kinds import Activation
from vitedge.network.numerics import activate


def norm(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def timm_logits(weights: dict[str, np.ndarray], pixels: np.ndarray, heads: int = 2) -> np.ndarray:
    """timm's forward pass on normalised pixels ``(N, H, W, C)``, written out."""
    kernel = weights["patch_embed.proj.weight"]
    patches = patchify(pixels, (kernel.shape[2], kernel.shape[3]))
    matrix = kernel.transpose(2, 3, 1, 0).reshape(-1, len(kernel))
    x = patches @ matrix + weights["patch_embed.proj.bias"]
    token = np.broadcast_to(weights["cls_token"], (len(x), 1, x.shape[2]))
    x = np.concatenate([token, x], axis=1) + weights["pos_embed"]
    for index in range(2):
        block = f"blocks.{index}"
        qkv = linear(norm(x, weights, f"{block}.norm1"), weights, f"{block}.attn.qkv")
        q, k, v = qkv.reshape(*qkv.shape[:2], 3, heads, -1).transpose(2, 0, 3, 1, 4)
        scores = np.exp(q @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1]))
        mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ v
        x = x + linear(mixed.transpose(0, 2, 1, 3).reshape(x.shape), weights, f"{block}.attn.proj")
        inner = linear(norm(x, weights, f"{block}.norm2"), weights, f"{block}.mlp.fc1")
        hidden = activate(inner.astype(np.float32), Activation.GELU)
        x = x + linear(hidden, weights, f"{block}.mlp.fc2")
    return linear(norm(x, weights, "norm")[:, 0], weights, "head")


SHAPES = {
    "square": {},
    "not square": {"grid": (2, 5)},
    "not square, as many patches as a square has": {"grid": (2, 8)},
    "grey": {"channels": 1},
    "four channels": {"channels": 4},
    "four channels, not square": {"channels": 4, "grid": (3, 1)},
    "patches of 32": {"patch": 32},
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_checkpoint_of_any_size_gives_timms_logits(name: str, tmp_path: Path) -> None:
    weights = timm_weights(**SHAPES[name])
    grid, patch = SHAPES[name].get("grid", (2, 2)), SHAPES[name].get("patch", 8)
    size = (grid[0] * patch, grid[1] * patch)
    path = save_torch(tmp_path / "model.pth", weights)
    network = read_model(path, ImportOptions(heads=2, image_size=size)).network
    assert network.preprocessing.size == size
    pixels = np.random.default_rng(0).integers(0, 256, (2, *network.image_shape), np.uint8)
    expected = timm_logits(weights, network.preprocessing.normalize(pixels))
    np.testing.assert_allclose(forward(network, pixels), expected, atol=2e-4)


@pytest.mark.parametrize(("patch", "size"), [(16, 384), (14, 518)])
def test_positions_are_interpolated_to_usual_larger_sizes(
    patch: int, size: int, tmp_path: Path
) -> None:
    weights = timm_weights(grid=(224 // patch,) * 2, patch=patch)
    weights["pos_embed"][:] = np.float32(0.25)  # whose interpolation is known
    path = save_torch(tmp_path / "model.pth", weights)
    network = read_model(path, ImportOptions(heads=2, image_size=(size, size))).network
    assert network.preprocessing.size == (size, size)
    pixels = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    tokens = 1 + (size // patch) ** 2
    wanted = weights | {"pos_embed": np.full((1, tokens, 16), 0.25, np.float32)}
    expected = timm_logits(wanted, network.preprocessing.normalize(pixels))
    np.testing.assert_allclose(forward(network, pixels), expected, atol=2e-4)


SOURCES = (
    "google_npz",
    "hugging_face_vit",
    "hugging_face_dinov2",
    "timm_vit",
    "torchvision_vit",
    "keras_hub_vit",
    "vit_keras_keras",
    "vit_tutorial_keras",
)


def source_of(case: str) -> Path:
    folder = GOLDEN / case
    if case.startswith("hugging_face"):
        return folder
    kinds = (".npz", ".safetensors", ".pth", ".keras")
    (path,) = (
        each for each in folder.iterdir() if each.suffix in kinds and each.stem != "expected"
    )
    return path


@pytest.mark.parametrize("case", SOURCES)
def test_every_source_is_read_for_images_of_no_square(case: str) -> None:
    heads = 2 if case.startswith("t") else None  # what weights of torch do not tell
    plain = read_model(source_of(case), ImportOptions(heads=heads)).network
    height, width = plain.preprocessing.size
    wanted = (2 * height, 3 * width)
    network = read_model(source_of(case), ImportOptions(heads=heads, image_size=wanted)).network
    assert network.preprocessing.size == wanted
    assert network.image_shape[:2] == wanted
    pixels = np.zeros((1, *network.image_shape), np.uint8)
    assert np.isfinite(forward(network, pixels)).all()


def test_four_channels_are_not_made_up(tmp_path: Path) -> None:
    from PIL import Image

    path = save_torch(tmp_path / "model.pth", timm_weights(channels=4))
    preprocessing = read_model(path, ImportOptions(heads=2)).network.preprocessing
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 30, 4), np.uint8)
    pixels[..., 3] = 0  # which Pillow would multiply the colours by
    made = preprocessing(pixels)
    assert made.shape == (16, 16, 4)
    assert made[..., :3].any()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(preprocessing(tmp_path / "a.png"), made)
    with pytest.raises(DataError, match=r"takes four channels, and the picture has .* RGB"):
        preprocessing(Image.new("RGB", (20, 20)))
    with pytest.raises(DataError, match=r"give uint8 pixels of shape \(H, W, 4\)"):
        preprocessing(pixels[..., :3])
