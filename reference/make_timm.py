"""timm's Vision Transformers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
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


def make(output: Path, size: Size) -> None:
    """Writes every case below ``output``."""
    for name, arguments in _GROUPS.items():
        _make(output / f"timm_{name}", VisionTransformer(**_sizes(size), **arguments), size)
    _make(output / "timm_deit_distilled", VisionTransformerDistilled(**_sizes(size)), size)
    _make(output / "timm_pth", VisionTransformer(**_sizes(size)), size, "model.pth")
    _make(output / "timm_pth_wrapped", VisionTransformer(**_sizes(size)), size, "model.pth.tar")


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
    folder: Path, model: torch.nn.Module, size: Size, file: str = "model.safetensors"
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

    eps = 1e-5 if hasattr(model.norm_pre, "eps") else 1e-6
    write_case(
        folder,
        write,
        importer="timm",
        model=file,
        images=images,
        logits=logits_of(model, normalized(images, IMAGENET)),
        packages=("timm", "torch"),
        eps=eps,
        preprocessing={**IMAGENET, "interpolation": "bicubic"},
        options={"heads": size.heads},
    )
