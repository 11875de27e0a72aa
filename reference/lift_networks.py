"""Makes ``tests/golden/lift_networks``: models that are no plain ViTs as tiny ONNX files.

They are timm's own classes with random weights: rotary positions with gated MLPs (EVA-02), windows
with relative positions and shifts (Swin), attention pooling (SigLIP), a convolutional stem with
attention biases and hard activations (LeViT), cosine attention in windows (Swin V2), linear
attention (EfficientViT), gated positions (ConViT). Each is exported by one of torch's exporters.
Beside each model lie an input and what torch computed of it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reference.lift_onnx import strip
from reference.torchvision_operators import name_missing_operators

CLASSES = 7


def rope_and_swiglu() -> torch.nn.Module:
    """EVA-02: axial rotary positions on patches, SwiGLU with a norm inside."""
    from timm.models.eva import Eva

    return Eva(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=CLASSES,
        qkv_fused=False, swiglu_mlp=True, scale_mlp=True, use_rot_pos_emb=True, mlp_ratio=2,
        ref_feat_shape=(4, 4),
    )  # fmt: skip


def windows() -> torch.nn.Module:
    """Swin: the second block of a stage is shifted."""
    from timm.models.swin_transformer import SwinTransformer

    return SwinTransformer(
        img_size=32, patch_size=4, window_size=4, embed_dim=16, depths=(2, 1), num_heads=(2, 4),
        num_classes=CLASSES, mlp_ratio=2,
    )  # fmt: skip


def cosine_windows() -> torch.nn.Module:
    """Swin V2: cosine attention, positions by an MLP."""
    from timm.models.swin_transformer_v2 import SwinTransformerV2

    return SwinTransformerV2(
        img_size=32, patch_size=4, window_size=4, embed_dim=16, depths=(2,), num_heads=(2,),
        num_classes=CLASSES, mlp_ratio=2,
    )  # fmt: skip


def attention_pooling() -> torch.nn.Module:
    """SigLIP: a learned query attends to all tokens, then an MLP."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=3, num_classes=CLASSES,
        class_token=False, global_pool="map", mlp_ratio=2,
    )  # fmt: skip


def convolutional_stem() -> torch.nn.Module:
    """LeViT: convolutions with batch norm, attention that shrinks the grid, Hard Swish."""
    from timm.models.levit import Levit

    return Levit(
        img_size=64, embed_dim=(16, 24), key_dim=8, num_heads=(2, 2), depth=(1, 1),
        num_classes=CLASSES,
    )  # fmt: skip


def linear_attention() -> torch.nn.Module:
    """EfficientViT: keys and values first, and a quotient by the sum of the shares."""
    from timm.models.efficientvit_mit import EfficientVit

    return EfficientVit(
        widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), head_dim=8, head_widths=(24, 24),
        num_classes=CLASSES,
    )  # fmt: skip


def gated_positions() -> torch.nn.Module:
    """ConViT: two softmaxes in shares that are brought to a sum of 1."""
    from timm.models.convit import ConVit

    return ConVit(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, local_up_to_layer=1,
        num_classes=CLASSES, mlp_ratio=2,
    )  # fmt: skip


MODELS: dict[str, tuple[Callable[[], torch.nn.Module], int, bool]] = {
    "rope_and_swiglu": (rope_and_swiglu, 32, True),
    "windows": (windows, 32, False),
    "cosine_windows": (cosine_windows, 32, True),
    "attention_pooling": (attention_pooling, 32, False),
    "convolutional_stem": (convolutional_stem, 64, False),
    "linear_attention": (linear_attention, 64, False),
    "gated_positions": (gated_positions, 32, False),
}
"""Model, size of its images, and whether the exporter is the newer one."""


def main(folder: Path) -> None:
    """Writes all models."""
    name_missing_operators()
    warnings.filterwarnings("ignore")
    folder.mkdir(parents=True, exist_ok=True)
    for name, (make, size, modern) in MODELS.items():
        torch.manual_seed(0)
        model = make().eval()
        liven(model)
        images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            logits = model(images)
        options = {"verbose": False, "external_data": False} if modern else {"opset_version": 17}
        torch.onnx.export(
            model, (images[:1],), str(folder / f"{name}.onnx"), dynamo=modern,
            input_names=["image"], output_names=["logits"], **options,
        )  # fmt: skip
        strip(folder / f"{name}.onnx")
        np.savez(folder / f"{name}.npz", images=images.numpy(), logits=logits.numpy())


def liven(model: Any) -> None:
    """Random weights that make every layer matter: biases, scales and tables are not zero."""
    import torch

    generator = torch.Generator().manual_seed(1)

    def normal(parameter: Any, deviation: float, mean: float = 0.0) -> None:
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation + mean)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            last = name.rpartition(".")[2]
            if parameter.ndim >= 2 and last == "weight":
                normal(parameter, (1.0 / parameter[0].numel()) ** 0.5)
            elif last == "weight":
                normal(parameter, 0.15, 1.0)
            elif last == "bias":
                normal(parameter, 0.1)
            elif "gamma" in name or "lambda" in name or "ls" in name.split("."):
                normal(parameter, 0.1, 0.5)
            elif "temperature" not in name and "logit_scale" not in name:
                normal(parameter, 0.3)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                normal(buffer, 0.1)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden/lift_networks"))
