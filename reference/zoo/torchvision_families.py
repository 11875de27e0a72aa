"""torchvision's transformers, made small; only its plain ViT is read by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from reference.zoo.family import MEAN, STD, Family, Source

_CLASSES = 10


def _vit() -> Any:
    from torchvision.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        image_size=96,
        patch_size=16,
        num_layers=2,
        num_heads=3,
        hidden_dim=192,
        mlp_dim=768,
        num_classes=_CLASSES,
    )


def _swin(version: int) -> Any:
    from torchvision.models import swin_transformer as swin

    versions: dict[int, dict[str, Any]] = {
        1: {},
        2: {"block": swin.SwinTransformerBlockV2, "downsample_layer": swin.PatchMergingV2},
    }
    return swin.SwinTransformer(
        patch_size=[4, 4],
        embed_dim=32,
        depths=[1, 2],
        num_heads=[1, 2],
        window_size=[4, 4],
        num_classes=_CLASSES,
        **versions[version],
    )


def _maxvit() -> Any:
    from torchvision.models.maxvit import MaxVit

    return MaxVit(
        input_size=(64, 64),
        stem_channels=16,
        partition_size=2,
        block_channels=[16, 32],
        block_layers=[1, 1],
        head_dim=8,
        stochastic_depth_prob=0.0,
        num_classes=_CLASSES,
    )


_MODELS: dict[str, tuple[str, int, Callable[[], Any]]] = {
    "vit": ("vit_b_16", 96, _vit),
    "swin": ("swin_t", 64, lambda: _swin(1)),
    "swinv2": ("swin_v2_t", 64, lambda: _swin(2)),
    "maxvit": ("maxvit_t", 64, _maxvit),
}


def _make(family: Family, folder: Path) -> Source:
    import torch
    from torch import nn

    from reference.zoo.torch_making import centre, export, liven, write_expected

    name = family.name.partition(".")[2]
    torch.manual_seed(0)
    model = _MODELS[name][2]().eval()
    liven(model, family.size)
    centre(
        model, [each for each in model.modules() if isinstance(each, nn.Linear)][-1], family.size
    )
    write_expected(model, family.size, folder)
    export(model, family.size, folder / "model.onnx", "logits")
    by_name = name == "vit"
    if by_name:
        torch.save(model.state_dict(), folder / "model.pth")
    options = {"heads": 3, "image_size": family.size, "mean": MEAN, "std": STD}
    return Source(
        family.architecture,
        family.size,
        by_name="model.pth" if by_name else None,
        options=options if by_name else {},
        traced="model.onnx",
        parameters=sum(each.numel() for each in model.parameters()),
    )


FAMILIES = tuple(
    Family(f"torchvision.{name}", architecture, (size, size), _make)
    for name, (architecture, size, _) in _MODELS.items()
)
