"""Google's original ``.npz`` checkpoints.

Their own code needs a JAX of its time. The files made here hold random arrays under the published
names, and timm, which has its own reader of these checkpoints, computes the logits; its activation
is set to the original's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer

from reference.golden import HALVES, Size, images_of, normalized, write_case
from reference.torch_models import logits_of


def make(output: Path, size: Size) -> None:
    """Writes every case below ``output``."""
    _make(output / "google_npz", size, pre_logits=False, root="")
    _make(output / "google_npz_pre_logits", size, pre_logits=True, root="")
    _make(output / "google_npz_training", size, pre_logits=False, root="opt/target/")


def _make(folder: Path, size: Size, *, pre_logits: bool, root: str) -> None:
    arrays = {root + name: array for name, array in _arrays(size, pre_logits=pre_logits).items()}
    images = images_of(size)
    write_case(
        folder,
        lambda target: np.savez_compressed(target / "vit.npz", **arrays),
        importer="google-npz",
        model="vit.npz",
        images=images,
        logits=_logits(arrays, root, size, normalized(images, HALVES)),
        packages=("timm", "torch"),
        eps=1e-6,
        preprocessing={**HALVES, "resize": None, "interpolation": "bilinear"},
    )


def _arrays(size: Size, *, pre_logits: bool) -> dict[str, np.ndarray]:
    """Random arrays under the names of the Flax modules."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    dim, heads, head_dim = size.dim, size.heads, size.dim // size.heads

    def dense(name: str, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        kernel = rng.standard_normal((*inputs, *outputs)) / np.sqrt(np.prod(inputs))
        arrays[f"{name}/kernel"] = kernel.astype(np.float32)
        arrays[f"{name}/bias"] = (rng.standard_normal(outputs) * 0.1).astype(np.float32)

    def norm(name: str) -> None:
        arrays[f"{name}/scale"] = (1 + 0.2 * rng.standard_normal(dim)).astype(np.float32)
        arrays[f"{name}/bias"] = (0.1 * rng.standard_normal(dim)).astype(np.float32)

    def tokens(name: str, count: int) -> None:
        arrays[name] = (0.5 * rng.standard_normal((1, count, dim))).astype(np.float32)

    dense("embedding", (size.patch, size.patch, 3), (dim,))
    tokens("cls", 1)
    tokens("Transformer/posembed_input/pos_embedding", (size.image // size.patch) ** 2 + 1)
    for index in range(size.depth):
        block = f"Transformer/encoderblock_{index}"
        norm(f"{block}/LayerNorm_0")
        for part in ("query", "key", "value"):
            dense(f"{block}/MultiHeadDotProductAttention_1/{part}", (dim,), (heads, head_dim))
        dense(f"{block}/MultiHeadDotProductAttention_1/out", (heads, head_dim), (dim,))
        norm(f"{block}/LayerNorm_2")
        dense(f"{block}/MlpBlock_3/Dense_0", (dim,), (size.mlp_dim,))
        dense(f"{block}/MlpBlock_3/Dense_1", (size.mlp_dim,), (dim,))
    norm("Transformer/encoder_norm")
    if pre_logits:
        dense("pre_logits", (dim,), (dim,))
    dense("head", (dim,), (size.classes,))
    return arrays


def _logits(arrays: dict[str, np.ndarray], root: str, size: Size, pixels: np.ndarray) -> np.ndarray:
    """What timm computes of them; it drops a hidden layer before the head, which is added here."""
    model = VisionTransformer(
        img_size=size.image,
        patch_size=size.patch,
        embed_dim=size.dim,
        depth=size.depth,
        num_heads=size.heads,
        mlp_ratio=size.mlp_dim / size.dim,
        num_classes=size.classes,
        act_layer="gelu_tanh",
    ).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vit.npz"
        np.savez(path, **arrays)
        model.load_pretrained(str(path))
    if f"{root}pre_logits/kernel" not in arrays:
        return logits_of(model, pixels)
    model.head = torch.nn.Identity()
    features = logits_of(model, pixels)
    hidden = np.tanh(
        features @ arrays[f"{root}pre_logits/kernel"] + arrays[f"{root}pre_logits/bias"]
    )
    return hidden @ arrays[f"{root}head/kernel"] + arrays[f"{root}head/bias"]
