"""timm's transformers over patches."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from timm.models import save_for_hf
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer

from reference.golden import IMAGENET, Size, images_of, normalized, write_case
from reference.torch_models import logits_of, randomize

_GROUPS: Mapping[str, Mapping[str, Any]] = {
    "vit": {},
    "deit3": {"no_embed_class": True, "init_values": 1e-4},
    "registers": {"no_embed_class": True, "reg_tokens": 4, "init_values": 1e-5},
    "registers_embedded": {"reg_tokens": 3},
    "registers_averaged": {
        "class_token": False,
        "no_embed_class": True,
        "reg_tokens": 4,
        "global_pool": "avg",
    },
    "averaged": {"class_token": False, "global_pool": "avg"},
    "averaged_with_class_token": {"global_pool": "avg"},
    "averaged_norm_before": {"class_token": False, "global_pool": "avg", "fc_norm": False},
    "qk_norm": {"qk_norm": True, "qkv_bias": False},
    "norm_pre": {"pre_norm": True, "norm_layer": partial(torch.nn.LayerNorm, eps=1e-5)},
}


# Registered architectures, in small: what the weights do not tell is in a hub folder's config.json.
_ARCHITECTURES: Mapping[str, str] = {
    "dinov3": "vit_small_patch16_dinov3",
    "dinov2_giant": "vit_giant_patch14_reg4_dinov2",
    "eva02": "eva02_tiny_patch14_224",
    "beit": "beit_base_patch16_224",
    "rope_mixed": "vit_small_patch16_rope_mixed_224",
    "aimv2": "aimv2_large_patch14_224",
    "beit3": "beit3_base_patch16_224",
    "eva02_clip": "eva02_base_patch16_clip_224",
}
_HUB_FOLDERS: Mapping[str, str] = {
    "dinov3_folder": "vit_small_plus_patch16_dinov3_qkvb",
    "eva02_post_norm": "eva02_enormous_patch14_clip_224",
    "rpn": "vit_base_patch16_rpn_224",
    "clip_quickgelu": "vit_base_patch16_clip_quickgelu_224",
    "siglip": "vit_base_patch32_siglip_256",
    "pe_spatial": "vit_pe_spatial_tiny_patch16_512",
    "pe_core": "vit_pe_core_tiny_patch16_384",
}
# What the weights of these do not tell.
_TOLD: Mapping[str, Mapping[str, str]] = {
    "averaged_norm_before": {"activation": "gelu"},
    "norm_pre": {"activation": "gelu"},
}


def make(output: Path, size: Size) -> None:
    """Writes every case below ``output``."""
    for name, arguments in _GROUPS.items():
        model = VisionTransformer(**_sizes(size), **arguments)
        _make(output / f"timm_{name}", model, size, told=_TOLD.get(name, {}))
    for name, architecture in _ARCHITECTURES.items():
        model = timm.create_model(architecture, **_sizes(size))
        told = {"image_size": [size.image] * 2} if getattr(model, "pos_embed", None) is None else {}
        _make(output / f"timm_{name}", model, size, told=told)
    for name, architecture in _HUB_FOLDERS.items():
        _make_hub_folder(output / f"timm_{name}", architecture, size)
    make_swin(output, size)
    _make(output / "timm_deit_distilled", VisionTransformerDistilled(**_sizes(size)), size)
    _make(output / "timm_pth", VisionTransformer(**_sizes(size)), size, "model.pth")
    _make(output / "timm_pth_wrapped", VisionTransformer(**_sizes(size)), size, "model.pth.tar")


def make_swin(output: Path, size: Size) -> None:
    """Writes a case of each generation of Swin: bare weights, and a hub folder."""
    arguments = {
        **{"img_size": size.image, "patch_size": 2, "embed_dim": 8, "depths": (2, 2)},
        **{"num_heads": (2, 2), "window_size": 4, "num_classes": size.classes, "mlp_ratio": 2.0},
    }
    model = timm.create_model("swin_tiny_patch4_window7_224", **arguments)
    _make(output / "timm_swin", model, size, importer="timm-swin", options={})
    architecture = "swinv2_tiny_window8_256"
    folder = output / "timm_swinv2"
    _make_hub_folder(folder, architecture, size, arguments, importer="timm-swin")


def make_positions(path: Path) -> None:
    """Writes positions and what timm interpolates them to, for several grids."""
    from timm.layers import resample_abs_pos_embed

    generator = torch.Generator().manual_seed(0)
    arrays: dict[str, np.ndarray] = {}
    cases = [
        ((4, 4), (6, 5)),
        ((6, 6), (3, 4)),
        ((5, 5), (5, 5)),
        ((14, 14), (24, 24)),
        ((3, 5), (7, 2)),
    ]
    for old, new in cases:
        positions = torch.randn((1, old[0] * old[1], 4), generator=generator)
        resampled = resample_abs_pos_embed(positions, list(new), list(old), num_prefix_tokens=0)
        name = f"{old[0]}x{old[1]}_{new[0]}x{new[1]}"
        arrays |= {f"{name}_from": positions[0].numpy(), f"{name}_to": resampled[0].numpy()}
    np.savez_compressed(path, **arrays)


def _sizes(size: Size) -> dict[str, Any]:
    return {
        "img_size": size.image,
        "patch_size": size.patch,
        "num_classes": size.classes,
        "embed_dim": size.dim,
        "depth": size.depth,
        "num_heads": size.heads,
        "mlp_ratio": size.mlp_dim / size.dim,
    }


def _make(
    folder: Path,
    model: torch.nn.Module,
    size: Size,
    file: str = "model.safetensors",
    *,
    told: Mapping[str, Any] = MappingProxyType({}),
    importer: str = "timm",
    options: Mapping[str, Any] | None = None,
) -> None:
    randomize(model)
    images = images_of(size)

    def write(target: Path) -> None:
        state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        if file.endswith(".safetensors"):
            save_file(state, target / file)
        elif file.endswith(".tar"):
            # As DeiT and timm's own training publish them.
            torch.save(
                {"epoch": 3, "model": {"module." + k: v for k, v in state.items()}}, target / file
            )
        else:
            torch.save(model.state_dict(), target / file)

    write_case(
        folder,
        write,
        importer=importer,
        model=file,
        images=images,
        logits=logits_of(model, normalized(images, IMAGENET)),
        packages=("timm", "torch"),
        eps=_eps(model),
        preprocessing={**IMAGENET, "interpolation": "bicubic"},
        options={"heads": size.heads, **told} if options is None else options,
    )


def _make_hub_folder(
    folder: Path,
    architecture: str,
    size: Size,
    arguments: dict[str, Any] | None = None,
    importer: str = "timm",
) -> None:
    """A folder as timm itself pushes it to the hub."""
    arguments = arguments or _sizes(size)
    if "pe_core" in architecture:
        arguments["attn_pool_num_heads"] = size.heads
    model = timm.create_model(architecture, **arguments)
    randomize(model)
    images = images_of(size)
    published = model.pretrained_cfg
    statistics = {key: list(published[key]) for key in ("mean", "std")}

    def write(target: Path) -> None:
        save_for_hf(model, target, model_args=arguments, safe_serialization=True)

    write_case(
        folder,
        write,
        importer=importer,
        model=".",
        images=images,
        logits=logits_of(model, normalized(images, statistics)),
        packages=("timm", "torch"),
        eps=_eps(model),
        preprocessing={**statistics, "interpolation": published["interpolation"]},
    )


def _eps(model: Any) -> float:
    blocks = model.blocks if hasattr(model, "blocks") else model.layers[0].blocks
    return float(blocks[0].norm1.eps)
