"""torchvision's vision transformer, saved as its ``.pth`` files are."""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision.models.vision_transformer import VisionTransformer

from reference.golden import IMAGENET, Size, images_of, normalized, write_case
from reference.torch_models import logits_of, randomize


def make(output: Path, size: Size) -> None:
    """Writes every case below ``output``."""
    _make(output / "torchvision_vit", size, None)
    _make(output / "torchvision_pre_logits", size, size.dim // 2)


def _make(folder: Path, size: Size, representation_size: int | None) -> None:
    model = VisionTransformer(
        image_size=size.image,
        patch_size=size.patch,
        num_layers=size.depth,
        num_heads=size.heads,
        hidden_dim=size.dim,
        mlp_dim=size.mlp_dim,
        num_classes=size.classes,
        representation_size=representation_size,
    )
    randomize(model)
    images = images_of(size)
    write_case(
        folder,
        lambda target: torch.save(model.state_dict(), target / "vit.pth"),
        importer="torchvision",
        model="vit.pth",
        images=images,
        logits=logits_of(model, normalized(images, IMAGENET)),
        packages=("torchvision", "torch"),
        eps=1e-6,
        preprocessing={**IMAGENET, "interpolation": "bilinear"},
        options={"heads": size.heads},
    )
